//! The imitation Jira Server / Data Center.
