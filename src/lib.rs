//! Tightrope certifies the robustness of neural networks.
//!
//! A network is a [`Graph`] of operators of three kinds (affine maps,
//! elementwise functions, products), and every analysis is written once per
//! kind. Data flows one way: file, graph, analysis, record.
//!
//! ```no_run
//! use ndarray::Array2;
//! use tightrope::bounds::{InputBox, MarginBounds, Method};
//! use tightrope::onnx::{LoadOptions, load};
//!
//! let graph = load("models/mnist-cnn-ibp0.1.onnx", &LoadOptions::default())?;
//! let images = Array2::<f32>::zeros((1, graph.input_len()));
//! let boxes = InputBox::linf(images.view(), 0.1, Some((0.0, 1.0)))?;
//! let margins = MarginBounds::new(&graph, Method::Ibp).bound(&boxes, &[7]);
//! println!("certified: {}", margins.certified(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The rooms, from the ground up; each uses only those before it:
//!
//! | room | holds |
//! |---|---|
//! | [`kernels`] | sums of many samples, boxes or linear functions side by side |
//! | [`random`] | random numbers from counters, keyed by seed, input and sample |
//! | [`rounding`] | floating-point arithmetic rounded outward |
//! | [`ops`] | the operators: all that the toolkit knows of them |
//! | [`graph`] | networks as plain data |
//! | [`onnx`] | `.onnx` files to graphs and back |
//! | [`exec`] | batched inference in f32, and in f64 where rounding is charged for |
//! | [`bounds`] | sound bounds in f64 |
//! | [`lipschitz`] | Lipschitz constants of networks, and the error of an f32 evaluation |
//! | [`smoothing`] | noise distributions, simplex maps, confidence bounds, radii, the two-step procedure |
//! | [`tightness`] | how tight interval bounds are, and why |
//! | [`query`] | what is asked: boxes, formulas over outputs, VNN-LIB 1 and 2 |
//! | [`attack`] | gradient search for counterexamples |
//! | [`verify`] | branch and bound: verdicts on queries |
//! | [`data`] | images and labels |
//! | [`runs`] | questions asked of many inputs: records, run files, resume, shards |
//! | [`report`] | summaries and curves |

pub mod attack;
pub mod bounds;
pub mod data;
pub mod exec;
pub mod graph;
pub mod kernels;
pub mod lipschitz;
pub mod onnx;
pub mod ops;
pub mod query;
pub mod random;
pub mod report;
pub mod rounding;
pub mod runs;
pub mod smoothing;
pub mod tightness;
pub mod verify;

pub use graph::Graph;
