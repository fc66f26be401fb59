//! Several networks as one graph, and nodes for what atoms read beside outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Affine, Groups, Op, Pow, Product, Sparse, Weights};

/// A graph under construction whose output is a list of parts.
pub(super) struct Joined {
    graph: Graph,
    /// The values that the output reads, with their lengths.
    parts: Vec<(ValueId, usize)>,
}

impl Joined {
    /// One network, as it is.
    pub(super) fn one(graph: Graph) -> Self {
        let parts = vec![(graph.output, graph.output_len())];
        Self { graph, parts }
    }

    /// No network yet, on `inputs` entries.
    pub(super) fn new(inputs: usize) -> Self {
        let graph = Graph {
            input_name: "inputs".into(),
            input_shape: vec![1, inputs],
            nodes: Vec::new(),
            output: 0,
            output_shape: vec![1, inputs],
            folded: Vec::new(),
        };
        Self { graph, parts: Vec::new() }
    }

    fn push(&mut self, name: String, op: Op, inputs: Vec<ValueId>, shape: Vec<usize>) -> ValueId {
        self.graph.nodes.push(Node { name, origin: "query".into(), op, inputs, shape });
        self.graph.nodes.len()
    }

    /// Appends a network whose input entry `i` is entry `source[i]`.
    pub(super) fn network(&mut self, name: &str, network: &Graph, source: &[usize]) {
        let select = Sparse::select(vec![self.graph.input_len()], source.iter().copied());
        let shape = network.input_shape.clone();
        let input = self.push(format!("{name}/inputs"), Op::Affine(Affine::Sparse(select)), vec![0], shape);
        for node in &network.nodes {
            let mut node = node.clone();
            node.name = format!("{name}/{}", node.name);
            // Value 0 is the selection, which is value `input`.
            node.inputs.iter_mut().for_each(|v| *v += input);
            self.graph.nodes.push(node);
        }
        self.parts.push((network.output + input, network.output_len()));
    }

    /// Number of entries of the output so far.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|p| p.1).sum()
    }

    fn select(&mut self, name: &str, parts: &[(ValueId, usize)], source: Vec<usize>) -> ValueId {
        let shape = vec![1, source.len()];
        let op = Sparse::select(parts.iter().map(|p| p.1).collect(), source);
        self.push(name.into(), Op::Affine(Affine::Sparse(op)), parts.iter().map(|p| p.0).collect(), shape)
    }

    /// Appends entries of the input to the output.
    pub(super) fn inputs(&mut self, entries: Vec<usize>) {
        let (count, parts) = (entries.len(), [(0, self.graph.input_len())]);
        let value = self.select("query/inputs", &parts, entries);
        self.parts.push((value, count));
    }

    /// Appends products of entries of the output as it is: each monomial lists
    /// its entries in order, as often as their powers say, at least two.
    pub(super) fn products(&mut self, monomials: &[Vec<usize>]) {
        let base = self.parts.clone();
        let width: usize = base.iter().map(|p| p.1).sum();
        let factors: Vec<Vec<(usize, usize)>> = monomials
            .iter()
            .map(|m| m.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect())
            .collect();
        // Powers are functions of one entry, so that a square is never negative.
        let mut powers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &(entry, power) in factors.iter().flatten().filter(|f| f.1 > 1) {
            powers.entry(power).or_default().push(entry);
        }
        let (mut pool, mut places, mut next) = (base.clone(), BTreeMap::new(), width);
        for (power, mut entries) in powers {
            entries.sort_unstable();
            entries.dedup();
            for &entry in &entries {
                places.insert((entry, power), next);
                next += 1;
            }
            let count = entries.len();
            let value = self.select(&format!("query/bases of powers {power}"), &base, entries);
            let op = Op::Elementwise(Arc::new(Pow { exponent: power as f64 }));
            let value = self.push(format!("query/powers {power}"), op, vec![value], vec![1, count]);
            pool.push((value, count));
        }
        let place = |f: &(usize, usize)| if f.1 == 1 { f.0 } else { places[f] };
        let mut current: Vec<usize> = factors.iter().map(|f| place(&f[0])).collect();
        for level in 1..factors.iter().map(Vec::len).max().unwrap_or(0) {
            let active: Vec<usize> = (0..factors.len()).filter(|&i| factors[i].len() > level).collect();
            let left = active.iter().map(|&i| current[i]).collect();
            let right = active.iter().map(|&i| place(&factors[i][level])).collect();
            let left = self.select(&format!("query/left {level}"), &pool, left);
            let right = self.select(&format!("query/right {level}"), &pool, right);
            let shape = vec![1, active.len()];
            let value = self.push(
                format!("query/products {level}"),
                Op::Product(Product::Multiply),
                vec![left, right],
                shape,
            );
            pool.push((value, active.len()));
            for &i in &active {
                current[i] = next;
                next += 1;
            }
        }
        let value = self.select("query/monomials", &pool, current);
        self.parts.push((value, monomials.len()));
    }

    /// Appends sums of entries of the output as it is, with factors that were
    /// rounded to nearest.
    pub(super) fn sums(&mut self, rows: &[Vec<(usize, f64)>]) {
        let lens = self.parts.iter().map(|p| p.1).collect();
        let groups = Groups::new(rows.iter().map(|row| row.iter().map(|t| t.0)));
        let weights = rows.iter().flatten().map(|t| t.1).collect();
        let op = Sparse {
            inputs: lens,
            groups,
            // Within four units: the quotient is cut off, converted and scaled.
            weights: Some(Weights::rounded(weights, 4.0 * f64::EPSILON)),
            bias: None,
        };
        let inputs = self.parts.iter().map(|p| p.0).collect();
        let value =
            self.push("query/sums".into(), Op::Affine(Affine::Sparse(op)), inputs, vec![1, rows.len()]);
        self.parts.push((value, rows.len()));
    }

    /// The graph, with all parts as its output.
    pub(super) fn finish(mut self) -> Graph {
        if let [(value, _)] = self.parts[..] {
            if value != self.graph.output {
                self.graph.output = value;
                self.graph.output_shape = self.graph.shape(value).to_vec();
            }
        } else {
            let (parts, total) = (self.parts.clone(), self.len());
            self.graph.output = self.select("query/outputs", &parts, (0..total).collect());
            self.graph.output_shape = vec![1, total];
        }
        self.graph
    }
}
