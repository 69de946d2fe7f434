//! The documents are correct: their commands run, their flags exist, their error texts are the program's.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod commands;
mod markdown;
mod run;
