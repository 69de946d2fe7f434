//! What is proven right now. Rooms on the path write a [`Layer`]; only status reads it.

mod layer;

pub use layer::{Layer, Snapshot, State};
