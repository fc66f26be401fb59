//! Tightrope certifies the robustness of neural networks.

pub mod bounds;
pub mod data;
pub mod exec;
pub mod graph;
pub mod kernels;
pub mod onnx;
pub mod ops;
pub mod report;

pub use graph::Graph;
