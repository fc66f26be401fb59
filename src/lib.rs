//! Tightrope certifies the robustness of neural networks.

pub mod bounds;
pub mod exec;
pub mod graph;
pub mod kernels;
pub mod onnx;
pub mod ops;

pub use graph::Graph;
