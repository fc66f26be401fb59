//! Batched inference in `f32`: the network as it would be deployed; and in
//! `f64`, where rounding is charged for.

mod fuse;
mod plan;
mod steps;
mod wide;

pub(crate) use fuse::{Fused, fuse};
pub use plan::{Plan, Workspace};
pub use wide::Wide;
