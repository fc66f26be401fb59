//! Random networks over all kinds of operators, held against evaluation by
//! definition: bounds contain every sample, inference agrees, and nothing
//! depends on batches or threads.

#[path = "properties/bounds.rs"]
mod bounds;
#[path = "properties/functions.rs"]
mod functions;
#[path = "properties/inference.rs"]
mod inference;
#[path = "properties/networks.rs"]
mod networks;
