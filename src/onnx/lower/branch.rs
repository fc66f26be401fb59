//! `If` with a condition that is known: the branch that is taken, in place of the node.

use std::collections::HashSet;

use super::{Call, Lowering, NodeError, Value, label, table};
use crate::onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::onnx::tensor::{Data, Tensor};

/// `If`.
pub(super) fn choose(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let Data::Bool(condition) = &call.tensor(0)?.data else {
        return Err(NodeError::Type { input: 0, accepted: "truth values" });
    };
    let [condition] = condition[..] else {
        return Err(NodeError::shape(&[call.shape(0)?], "one truth value"));
    };
    let name = if condition { "then_branch" } else { "else_branch" };
    let accepted = "a graph without inputs";
    let branch = call.attributes.graph(name)?;
    let branch = branch.filter(|branch| branch.input.is_empty() && branch.sparse_initializer.is_empty());
    let branch = branch.ok_or(NodeError::Value { what: name, found: "none".into(), accepted })?;
    graph.inline(branch)
}

impl Lowering {
    /// Lowers a graph that reads the values known so far. Its own names end with it.
    fn inline(&mut self, branch: &GraphProto) -> Result<Vec<Value>, NodeError> {
        let outer: HashSet<String> = self.values.keys().cloned().collect();
        for tensor in &branch.initializer {
            if outer.contains(tensor.name()) {
                return Err(NodeError::Redefined(tensor.name().to_owned()));
            }
            self.define(tensor.name(), Tensor::from_proto(tensor)?, tensor.data_type());
        }
        let (needed, read) = needed_nodes(branch, &[]);
        for (i, node) in branch.node.iter().enumerate().filter(|(i, _)| needed[*i]) {
            let inside = |problem| NodeError::Inside {
                node: label(i, node),
                op: node.op_type().to_owned(),
                problem: Box::new(problem),
            };
            table::find(node.domain(), node.op_type())
                .map_err(NodeError::Operator)
                .and_then(|_| self.node(i, node, &read))
                .map_err(inside)?;
        }
        let outputs = branch.output.iter().map(|output| {
            let value = self.values.get(output.name()).cloned();
            value.ok_or_else(|| NodeError::Unknown(output.name().to_owned()))
        });
        let outputs = outputs.collect();
        self.values.retain(|name, _| outer.contains(name));
        self.types.retain(|name, _| outer.contains(name));
        outputs
    }
}

/// The nodes that the outputs of a graph and the `hidden` values depend on, and the names that these refer to,
/// inside of branches too. An absent input has the empty name, which is no output's.
pub(in crate::onnx) fn needed_nodes<'a>(
    graph: &'a GraphProto,
    hidden: &[&'a str],
) -> (Vec<bool>, HashSet<&'a str>) {
    let mut wanted: HashSet<&str> = graph.output.iter().map(ValueInfoProto::name).collect();
    wanted.extend(hidden);
    let mut needed = vec![false; graph.node.len()];
    for (i, node) in graph.node.iter().enumerate().rev() {
        if node.output.iter().any(|o| !o.is_empty() && wanted.contains(o.as_str())) {
            needed[i] = true;
            reads(node, &mut wanted);
        }
    }
    wanted.remove("");
    (needed, wanted)
}

/// All names that a node and the graphs in its attributes refer to; graphs nest no deeper than the decoder allows.
fn reads<'a>(node: &'a NodeProto, wanted: &mut HashSet<&'a str>) {
    wanted.extend(node.input.iter().map(String::as_str));
    for branch in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        wanted.extend(branch.output.iter().map(ValueInfoProto::name));
        branch.node.iter().for_each(|node| reads(node, wanted));
    }
}
