//! A certificate authority made on the spot, and the leaves it signs.
