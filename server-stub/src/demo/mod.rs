//! The imitation Jira and the gateway joined with the real agent: one of everything, once.
