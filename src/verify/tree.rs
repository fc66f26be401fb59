//! The tree of a search, for certificates: what was cut where, and what proves each part. The format is that of
//! the checker (`certify/checker/README.md`).

use std::fmt::Write;

use crate::bounds::linear::proof::bits;
use crate::bounds::linear::{Cut, RowProof};
use crate::graph::Graph;
use crate::ops::Op;

/// What was found out about a subproblem.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// How its intervals came to be, if there is nothing yet.
    pub(super) intervals: String,
    /// Functions that refute disjuncts, or cut off a part of the box.
    pub(super) rows: String,
}

impl Evidence {
    /// The rows that were proved.
    pub(super) fn of_rows(intervals: String, rows: &[RowProof]) -> Self {
        Self { intervals, rows: rows.iter().filter_map(|row| row.text.as_deref()).collect() }
    }
}

/// How a subproblem went on.
enum Next {
    Nothing,
    /// Each disjunct on its own.
    Fork(Vec<(u32, u32)>),
    Cut(Cut, [u32; 2]),
}

struct Node {
    text: String,
    next: Next,
}

/// All subproblems so far, the regions first.
pub(super) struct Tree(Vec<Node>);

impl Tree {
    pub(super) fn new(regions: usize) -> Self {
        let mut tree = Self(Vec::new());
        for _ in 0..regions {
            tree.add();
        }
        tree
    }

    fn add(&mut self) -> u32 {
        self.0.push(Node { text: String::new(), next: Next::Nothing });
        self.0.len() as u32 - 1
    }

    /// Adds what was found out about a subproblem.
    pub(super) fn note(&mut self, place: u32, found: &Evidence) {
        let node = &mut self.0[place as usize];
        if node.text.is_empty() {
            node.text += &found.intervals;
        }
        node.text += &found.rows;
    }

    /// The places of the two sides of a cut.
    pub(super) fn cut(&mut self, place: u32, cut: Cut) -> [u32; 2] {
        let children = [self.add(), self.add()];
        self.0[place as usize].next = Next::Cut(cut, children);
        children
    }

    /// The place of a disjunct on its own.
    pub(super) fn fork(&mut self, place: u32, disjunct: u32) -> u32 {
        let child = self.add();
        match &mut self.0[place as usize].next {
            Next::Fork(children) => children.push((disjunct, child)),
            next => *next = Next::Fork(vec![(disjunct, child)]),
        }
        child
    }

    /// The whole proof.
    pub(super) fn text(&self, graph: &Graph, regions: usize) -> String {
        let mut text = String::new();
        let mut open: Vec<u32> = (0..regions as u32).rev().collect();
        while let Some(place) = open.pop() {
            let node = &self.0[place as usize];
            text += if node.text.is_empty() { "part\n" } else { &node.text };
            let _ = match &node.next {
                Next::Nothing => Ok(()),
                Next::Fork(children) => {
                    open.extend(children.iter().rev().map(|(_, child)| child));
                    let names: Vec<String> = children.iter().map(|(d, _)| d.to_string()).collect();
                    writeln!(text, "fork {}", names.join(" "))
                }
                Next::Cut(cut, [below, above]) => {
                    open.extend([above, below]);
                    let point = bits(cut.point);
                    match reader(graph, cut.value) {
                        Some((slot, name)) if cut.value > 0 => {
                            writeln!(text, "cut {slot} {} {point} {name}", cut.entry)
                        }
                        _ => writeln!(text, "split {} {point}", cut.entry),
                    }
                }
            };
        }
        text + "end\n"
    }
}

/// A node that is not affine and reads a value, and at which of its inputs.
fn reader(graph: &Graph, value: usize) -> Option<(usize, &str)> {
    let mut nodes = graph.nodes.iter().filter(|node| !matches!(node.op, Op::Affine(_)));
    nodes.find_map(|node| Some((node.inputs.iter().position(|&v| v == value)?, node.name.as_str())))
}
