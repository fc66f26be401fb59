//! The attributes of a node, by name and type.

use thiserror::Error;

use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, GraphProto, NodeProto};
use super::tensor::{Tensor, TensorError};

/// The attributes of one node.
///
/// Each accessor returns `None` if the node has no attribute of that name, so that the operator's
/// default can take its place, and an error if it has one of another type: nothing is converted
/// from one type to another.
///
/// ```
/// use tightrope::onnx::attributes::Attributes;
/// use tightrope::onnx::proto::attribute_proto::AttributeType;
/// use tightrope::onnx::proto::{AttributeProto, NodeProto};
///
/// let axis = AttributeProto {
///     name: Some("axis".to_owned()),
///     r#type: Some(AttributeType::Int.into()),
///     i: Some(2),
///     ..AttributeProto::default()
/// };
/// let node = NodeProto {
///     op_type: Some("Softmax".to_owned()),
///     attribute: vec![axis],
///     ..NodeProto::default()
/// };
/// let attributes = Attributes::new(&node);
/// assert_eq!(attributes.int("axis")?, Some(2));
/// assert_eq!(attributes.int("group")?, None);
/// assert!(attributes.float("axis").is_err());
/// # Ok::<(), tightrope::onnx::attributes::AttributeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    node: &'a NodeProto,
}

/// Why an attribute cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// The attribute has another type.
    #[error("{node}: attribute {attribute:?} is of type {found}; expected {expected}")]
    Type {
        /// The node: its operator and name.
        node: String,
        /// The attribute's name.
        attribute: String,
        /// Its type, by the ONNX name.
        found: String,
        /// The type asked for, by the ONNX name.
        expected: &'static str,
    },
    /// The attribute says one type and holds a value of another, or none where it needs one.
    #[error("{node}: attribute {attribute:?} of type {expected} holds {found}")]
    Value {
        /// The node: its operator and name.
        node: String,
        /// The attribute's name.
        attribute: String,
        /// The values it holds, by the ONNX names of their types.
        found: String,
        /// The type it says it has, by the ONNX name.
        expected: &'static str,
    },
    /// The node has several attributes of that name.
    #[error("{node}: attribute {attribute:?} appears more than once; expected at most one")]
    Repeated {
        /// The node: its operator and name.
        node: String,
        /// The attribute's name.
        attribute: String,
    },
    /// The value is a parameter of the function that the node belongs to.
    #[error(
        "{node}: attribute {attribute:?} refers to function parameter {parameter:?}; expected a \
         value ({expected})"
    )]
    Reference {
        /// The node: its operator and name.
        node: String,
        /// The attribute's name.
        attribute: String,
        /// The parameter's name.
        parameter: String,
        /// The type asked for, by the ONNX name.
        expected: &'static str,
    },
    /// A string is not valid UTF-8.
    #[error("{node}: attribute {attribute:?} holds {bytes} bytes that are not UTF-8 text")]
    Text {
        /// The node: its operator and name.
        node: String,
        /// The attribute's name.
        attribute: String,
        /// Length of the string.
        bytes: usize,
    },
    /// A tensor is not valid.
    #[error("{node}: attribute {attribute:?}: {problem}")]
    Tensor {
        /// The node: its operator and name.
        node: String,
        /// The attribute's name.
        attribute: String,
        /// What is wrong with it.
        problem: Box<TensorError>,
    },
}

impl<'a> Attributes<'a> {
    /// The attributes of `node`.
    #[must_use]
    pub fn new(node: &'a NodeProto) -> Self {
        Self { node }
    }

    /// An integer.
    ///
    /// # Errors
    ///
    /// If the attribute is not one INT.
    pub fn int(self, name: &str) -> Result<Option<i64>, AttributeError> {
        let found = self.find(name, AttributeType::Int)?;
        // A writer of protobuf 3 leaves a zero out.
        Ok(found.map(AttributeProto::i))
    }

    /// A float. It is stored as an `f32` and widened exactly, so 0.01 comes as
    /// 0.009999999776482582.
    ///
    /// # Errors
    ///
    /// If the attribute is not one FLOAT.
    pub fn float(self, name: &str) -> Result<Option<f64>, AttributeError> {
        let found = self.find(name, AttributeType::Float)?;
        Ok(found.map(|attribute| f64::from(attribute.f())))
    }

    /// A list of integers.
    ///
    /// # Errors
    ///
    /// If the attribute is not one INTS.
    pub fn ints(self, name: &str) -> Result<Option<&'a [i64]>, AttributeError> {
        let found = self.find(name, AttributeType::Ints)?;
        Ok(found.map(|attribute| attribute.ints.as_slice()))
    }

    /// A list of floats, each widened as by [`Attributes::float`].
    ///
    /// # Errors
    ///
    /// If the attribute is not one FLOATS.
    pub fn floats(self, name: &str) -> Result<Option<Vec<f64>>, AttributeError> {
        let found = self.find(name, AttributeType::Floats)?;
        Ok(found.map(|attribute| attribute.floats.iter().copied().map(f64::from).collect()))
    }

    /// A list of strings.
    ///
    /// # Errors
    ///
    /// If the attribute is not one STRINGS, or holds bytes that are not UTF-8.
    pub fn strings(self, name: &str) -> Result<Option<Vec<String>>, AttributeError> {
        let Some(found) = self.find(name, AttributeType::Strings)? else { return Ok(None) };
        let texts = found.strings.iter().map(|bytes| String::from_utf8(bytes.clone()).map_err(|_| ()));
        let texts: Result<Vec<String>, ()> = texts.collect();
        Ok(Some(texts.unwrap_or_default()))
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// If the attribute is not one STRING, or not UTF-8.
    pub fn string(self, name: &str) -> Result<Option<&'a str>, AttributeError> {
        let Some(found) = self.find(name, AttributeType::String)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(found.s()).map_err(|_| AttributeError::Text {
            node: self.describe(),
            attribute: name.to_owned(),
            bytes: found.s().len(),
        })?;
        Ok(Some(text))
    }

    /// A constant tensor, converted by [`Tensor::from_proto`].
    ///
    /// # Errors
    ///
    /// If the attribute is not one TENSOR, or the tensor is not valid.
    pub fn tensor(self, name: &str) -> Result<Option<Tensor>, AttributeError> {
        let Some(found) = self.find(name, AttributeType::Tensor)? else {
            return Ok(None);
        };
        let Some(tensor) = &found.t else {
            return Err(AttributeError::Value {
                node: self.describe(),
                attribute: name.to_owned(),
                found: "nothing".to_owned(),
                expected: AttributeType::Tensor.as_str_name(),
            });
        };
        match Tensor::from_proto(tensor) {
            Ok(tensor) => Ok(Some(tensor)),
            Err(problem) => Err(AttributeError::Tensor {
                node: self.describe(),
                attribute: name.to_owned(),
                problem: Box::new(problem),
            }),
        }
    }

    /// A graph, such as a branch of `If`.
    ///
    /// # Errors
    ///
    /// If the attribute is not one GRAPH.
    pub fn graph(self, name: &str) -> Result<Option<&'a GraphProto>, AttributeError> {
        Ok(self.find(name, AttributeType::Graph)?.and_then(|found| found.g.as_deref()))
    }

    /// The attribute `name`, if it is there, checked to be of type `expected`.
    fn find(self, name: &str, expected: AttributeType) -> Result<Option<&'a AttributeProto>, AttributeError> {
        let mut named = self.node.attribute.iter().filter(|a| a.name() == name);
        let Some(found) = named.next() else {
            return Ok(None);
        };
        if named.next().is_some() {
            return Err(AttributeError::Repeated { node: self.describe(), attribute: name.to_owned() });
        }
        if !found.ref_attr_name().is_empty() {
            return Err(AttributeError::Reference {
                node: self.describe(),
                attribute: name.to_owned(),
                parameter: found.ref_attr_name().to_owned(),
                expected: expected.as_str_name(),
            });
        }
        let number = found.r#type.unwrap_or(0);
        let declared = AttributeType::try_from(number);
        let wrong_type = |found: String| AttributeError::Type {
            node: self.describe(),
            attribute: name.to_owned(),
            found,
            expected: expected.as_str_name(),
        };
        match declared {
            // Models before IR version 2 have no type; the field that is there tells.
            Ok(AttributeType::Undefined) => match held(found, |_| true).as_slice() {
                [only] if *only == expected => Ok(Some(found)),
                others => Err(wrong_type(format!("UNDEFINED with {}", names(others)))),
            },
            Ok(declared) if declared == expected => {
                // Zeros of other types are what a writer may put into every unused field.
                let held = held(found, |zero| !zero);
                if held.iter().all(|&other| other == expected) {
                    return Ok(Some(found));
                }
                Err(AttributeError::Value {
                    node: self.describe(),
                    attribute: name.to_owned(),
                    found: names(&held),
                    expected: expected.as_str_name(),
                })
            }
            Ok(other) => Err(wrong_type(other.as_str_name().to_owned())),
            Err(_) => Err(wrong_type(format!("number {number}, not in the schema"))),
        }
    }

    /// The node as errors name it: unnamed nodes by their first output, which is unique.
    fn describe(self) -> String {
        let operator = self.node.op_type();
        match (self.node.name(), self.node.output.first()) {
            ("", Some(output)) => format!("{operator} node with output {output:?}"),
            (name, _) => format!("{operator} node {name:?}"),
        }
    }
}

/// The types of which `attribute` holds a value. `counts` is asked, for each single number or
/// string that is present, whether it counts, given whether it is zero or empty.
fn held(attribute: &AttributeProto, counts: fn(bool) -> bool) -> Vec<AttributeType> {
    use AttributeType as T;
    let a = attribute;
    let fields = [
        (T::Float, a.f.is_some_and(|f| counts(f.to_bits() == 0))),
        (T::Int, a.i.is_some_and(|i| counts(i == 0))),
        (T::String, a.s.as_ref().is_some_and(|s| counts(s.is_empty()))),
        (T::Tensor, a.t.is_some()),
        (T::Graph, a.g.is_some()),
        (T::SparseTensor, a.sparse_tensor.is_some()),
        (T::TypeProto, a.tp.is_some()),
        (T::Floats, !a.floats.is_empty()),
        (T::Ints, !a.ints.is_empty()),
        (T::Strings, !a.strings.is_empty()),
        (T::Tensors, !a.tensors.is_empty()),
        (T::Graphs, !a.graphs.is_empty()),
        (T::SparseTensors, !a.sparse_tensors.is_empty()),
        (T::TypeProtos, !a.type_protos.is_empty()),
    ];
    let held = fields.iter().filter(|(_, is_held)| *is_held);
    held.map(|(kind, _)| *kind).collect()
}

/// The ONNX names of `types`.
fn names(types: &[AttributeType]) -> String {
    if types.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<&str> = types.iter().map(AttributeType::as_str_name).collect();
    names.join(" and ")
}

#[cfg(test)]
mod tests;
