//! The SSH gateway: sessions of agents below, one HTTP listener above.
