//! The way back through a network: linear functions of a value, a panel of them at a time, become
//! functions of earlier values. Linear bounds and tightness go it with rules of their own for
//! what bends and for what rounding costs.

use crate::graph::{Graph, ValueId};
use crate::kernels::{Block, Panel};
use crate::ops::{Op, Order, PanelAdjoint, Workspace};

/// The transposes of a network's affine maps, for all inputs.
pub(crate) struct Transpose<'a> {
    pub(crate) graph: &'a Graph,
    /// Where the entries of each value stand in a panel.
    pub(crate) orders: Vec<Order>,
    adjoints: Vec<Option<PanelAdjoint<'a>>>,
}

impl<'a> Transpose<'a> {
    pub(crate) fn new(graph: &'a Graph) -> Self {
        let (mut orders, mut adjoints) = (vec![Order::PLAIN], Vec::new());
        for (index, node) in graph.nodes.iter().enumerate() {
            let first = orders[node.inputs[0]];
            let (order, adjoint) = match &node.op {
                Op::Affine(op) => {
                    let from: Vec<Order> = node.inputs.iter().map(|&v| orders[v]).collect();
                    (first.after(Some(op)), Some(PanelAdjoint::new(op, &from, graph.len(index + 1))))
                }
                Op::Elementwise(_) => (first.after(None), None),
                Op::Product(_) => (Order::PLAIN, None),
            };
            orders.push(order);
            adjoints.push(adjoint);
        }
        Self { graph, orders, adjoints }
    }

    /// Coefficients on the result of an affine node, without those of its bias, as coefficients on its
    /// inputs. `each` sees the ones on the result once, some at a time, and may change them.
    ///
    /// # Panics
    /// If the node is not affine.
    pub(crate) fn pull(
        &self,
        index: usize,
        mut a: Panel,
        memory: &mut Workspace,
        each: impl FnMut(&mut Block),
    ) -> Vec<(ValueId, Panel)> {
        let inputs = &self.graph.nodes[index].inputs;
        let mut parts: Vec<Panel> = inputs.iter().map(|&v| memory.panel(self.graph.len(v))).collect();
        let adjoint = self.adjoints[index].as_ref().expect("one for each affine map");
        adjoint.add_to(&mut a, &mut parts, memory, each);
        memory.give_back(a);
        inputs.iter().copied().zip(parts).collect()
    }
}

/// Coefficients of functions on their way back, on every value that they have reached.
pub(crate) struct Pending(Vec<Option<Panel>>);

impl Pending {
    /// None yet, for functions of the value `from`.
    pub(crate) fn new(from: ValueId) -> Self {
        Self((0..=from).map(|_| None).collect())
    }

    /// The coefficients on a value, which go on from there.
    pub(crate) fn take(&mut self, v: ValueId) -> Option<Panel> {
        self.0[v].take()
    }

    /// The coefficients on a value, which stay.
    pub(crate) fn get(&mut self, v: ValueId) -> Option<&mut Panel> {
        self.0[v].as_mut()
    }

    /// The coefficients on a value, to be filled in.
    pub(crate) fn on(&mut self, v: ValueId, graph: &Graph, memory: &mut Workspace) -> &mut Panel {
        self.0[v].get_or_insert_with(|| memory.panel(graph.len(v)))
    }

    /// Adds coefficients to those on a value; where there are some, `sum` adds the second to the first.
    pub(crate) fn add(
        &mut self,
        v: ValueId,
        mut part: Panel,
        memory: &mut Workspace,
        sum: impl FnOnce(&mut Panel, &mut Panel),
    ) {
        match &mut self.0[v] {
            none @ None => *none = Some(part),
            Some(sums) => {
                sum(sums, &mut part);
                memory.give_back(part);
            }
        }
    }

    /// All coefficients that have not gone on yet.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Panel> {
        self.0.iter_mut().flatten()
    }
}
