//! Batched inference in `f32`: the network as it would be deployed.

mod fuse;
mod plan;
mod steps;

pub(crate) use fuse::{Fused, fuse};
pub use plan::{Plan, Workspace};
