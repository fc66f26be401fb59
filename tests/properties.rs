//! Random networks over all kinds of operators, held against evaluation by
//! definition: bounds contain every sample, inference agrees, and nothing
//! depends on batches or threads.

#![expect(clippy::print_stdout, reason = "says how close to its limit an error came")]

#[path = "properties/adversarial.rs"]
mod adversarial;
#[path = "properties/bounds.rs"]
mod bounds;
#[path = "properties/float32.rs"]
mod float32;
#[path = "properties/functions.rs"]
mod functions;
#[path = "properties/inference.rs"]
mod inference;
#[path = "properties/linear.rs"]
mod linear;
#[path = "properties/lipschitz.rs"]
mod lipschitz;
#[path = "properties/networks.rs"]
mod networks;
#[path = "properties/planes.rs"]
mod planes;
#[path = "properties/relaxation.rs"]
mod relaxation;
#[path = "properties/single.rs"]
mod single;
#[path = "properties/verify.rs"]
mod verify;
