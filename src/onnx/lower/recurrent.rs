//! `RNN`, `GRU` and `LSTM`, unrolled over the steps of their sequence.

use super::{Call, Lowering, NodeError, Value, shapes};
use crate::onnx::tensor::Data;

type Result<T> = std::result::Result<T, NodeError>;

/// More steps than this are no network to be bounded, and a hostile model's.
const MOST_STEPS: usize = 4096;

/// What all directions and steps share.
struct Network<'a> {
    call: &'a Call<'a>,
    /// Gates of a cell.
    gates: usize,
    hidden: usize,
    batch: usize,
    clip: Option<f64>,
}

/// One direction's constants and functions.
struct Direction {
    /// `W` and `R`, transposed: inputs, or hidden entries, x gates * hidden.
    weights: [Value; 2],
    /// Biases of `W` and of `R`, one for each gate and hidden entry.
    bias: [Vec<f64>; 2],
    /// Peepholes of the gates i, o, f.
    peepholes: Option<Vec<f64>>,
    functions: Vec<(String, Option<f64>, Option<f64>)>,
}

/// How many functions a cell has, by operator.
fn defaults(op: &str) -> &'static [&'static str] {
    match op {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    }
}

fn constant(shape: Vec<usize>, values: Vec<f64>) -> Value {
    Value::constant(shape, Data::Float(values))
}

fn wrong(what: &'static str, found: impl Into<String>, accepted: &'static str) -> NodeError {
    NodeError::Value { what, found: found.into(), accepted }
}

impl Network<'_> {
    fn apply(&self, graph: &mut Lowering, op: &'static str, inputs: Vec<Value>) -> Result<Value> {
        graph.apply(self.call, op, inputs)
    }

    /// Columns `gate * hidden ..` of a value of `batch` rows, or of a row of constants.
    fn gate(&self, graph: &mut Lowering, x: &Value, gate: usize) -> Result<Value> {
        let width = x.shape()[1];
        let rows = x.shape()[0];
        let source = |(r, c): (usize, usize)| r * width + gate * self.hidden + c;
        let layout = ndarray::ArrayD::from_shape_fn(vec![rows, self.hidden], |at| source((at[0], at[1])));
        graph.rearrange(self.call, &[x], &layout, 0.0)
    }

    /// `x + h`, where `h` may be absent: nothing was there before the first step.
    fn sum(&self, graph: &mut Lowering, x: Value, h: Option<Value>) -> Result<Value> {
        match h {
            Some(h) => self.apply(graph, "Add", vec![x, h]),
            None => Ok(x),
        }
    }

    /// A function of a gate's sum, which is clipped before.
    fn activate(
        &self,
        graph: &mut Lowering,
        (name, alpha, beta): &(String, Option<f64>, Option<f64>),
        x: Value,
        gate: bool,
    ) -> Result<Value> {
        let mut x = x;
        if let (Some(most), true) = (self.clip, gate) {
            let limits = [-most, most].map(|limit| constant(vec![], vec![limit]));
            let [low, high] = limits;
            x = self.apply(graph, "Max", vec![x, low])?;
            x = self.apply(graph, "Min", vec![x, high])?;
        }
        let (default, names): (_, [&'static str; 2]) = match &*name.to_lowercase() {
            "sigmoid" => return self.apply(graph, "Sigmoid", vec![x]),
            "tanh" => return self.apply(graph, "Tanh", vec![x]),
            "relu" => return self.apply(graph, "Relu", vec![x]),
            "softsign" => return self.apply(graph, "Softsign", vec![x]),
            "softplus" => return self.apply(graph, "Softplus", vec![x]),
            "affine" => ((1.0, 0.0), ["Mul", "Add"]),
            "hardsigmoid" => ((f64::from(0.2_f32), 0.5), ["Mul", "Add"]),
            _ => {
                let accepted = "Sigmoid, Tanh, Relu, Softsign, Softplus, HardSigmoid or Affine";
                return Err(wrong("an activation", name.clone(), accepted));
            }
        };
        for (op, value) in names.into_iter().zip([alpha.unwrap_or(default.0), beta.unwrap_or(default.1)]) {
            x = self.apply(graph, op, vec![x, constant(vec![], vec![value])])?;
        }
        if name.eq_ignore_ascii_case("affine") {
            return Ok(x);
        }
        x = self.apply(graph, "Max", vec![x, constant(vec![], vec![0.0])])?;
        self.apply(graph, "Min", vec![x, constant(vec![], vec![1.0])])
    }

    fn row(&self, values: &[f64], gate: usize) -> Value {
        constant(vec![1, self.hidden], values[gate * self.hidden..(gate + 1) * self.hidden].to_vec())
    }

    /// The hidden state, and the cell's, after one step.
    fn step(
        &self,
        graph: &mut Lowering,
        direction: &Direction,
        x: &Value,
        (h, c): (Option<&Value>, Option<&Value>),
    ) -> Result<(Value, Option<Value>)> {
        let (call, f) = (self.call, &direction.functions);
        let [w, r] = &direction.weights;
        let width = self.gates * self.hidden;
        let input = self.apply(graph, "MatMul", vec![x.clone(), w.clone()])?;
        let separate = call.op == "GRU" && call.int("linear_before_reset", 0)? != 0;
        let before = match h {
            Some(h) => Some(self.apply(graph, "MatMul", vec![h.clone(), r.clone()])?),
            None => None,
        };
        // The biases of both sums, but for the last gate of a GRU that resets after its product.
        let apart = if call.op == "GRU" { 2 * self.hidden } else { width };
        let both = direction.bias[0].iter().zip(&direction.bias[1]).enumerate();
        let bias = both.map(|(k, (a, b))| if k < apart { a + b } else { *a }).collect();
        let input = self.apply(graph, "Add", vec![input, constant(vec![1, width], bias)])?;
        let gate = |graph: &mut Lowering, k: usize| -> Result<Value> {
            let x = self.gate(graph, &input, k)?;
            let h = before.as_ref().map(|h| self.gate(graph, h, k)).transpose()?;
            self.sum(graph, x, h)
        };
        let peep =
            |graph: &mut Lowering, x: Value, k: usize, c: Option<&Value>| match (&direction.peepholes, c) {
                (Some(all), Some(c)) => {
                    let seen = self.apply(graph, "Mul", vec![c.clone(), self.row(all, k)])?;
                    self.apply(graph, "Add", vec![x, seen])
                }
                _ => Ok(x),
            };
        match call.op {
            "LSTM" => {
                let i = gate(graph, 0)?;
                let i = peep(graph, i, 0, c)?;
                let i = self.activate(graph, &f[0], i, true)?;
                let candidate = gate(graph, 3)?;
                let candidate = self.activate(graph, &f[1], candidate, true)?;
                let mut cell = self.apply(graph, "Mul", vec![i.clone(), candidate])?;
                if let Some(c) = c {
                    let forget = if call.int("input_forget", 0)? == 0 {
                        let sum = gate(graph, 2)?;
                        let sum = peep(graph, sum, 2, Some(c))?;
                        self.activate(graph, &f[0], sum, true)?
                    } else {
                        self.apply(graph, "Sub", vec![constant(vec![], vec![1.0]), i])?
                    };
                    let kept = self.apply(graph, "Mul", vec![forget, c.clone()])?;
                    cell = self.apply(graph, "Add", vec![kept, cell])?;
                }
                let o = gate(graph, 1)?;
                let o = peep(graph, o, 1, Some(&cell))?;
                let o = self.activate(graph, &f[0], o, true)?;
                let shown = self.activate(graph, &f[2], cell.clone(), false)?;
                Ok((self.apply(graph, "Mul", vec![o, shown])?, Some(cell)))
            }
            "GRU" => {
                let z = gate(graph, 0)?;
                let z = self.activate(graph, &f[0], z, true)?;
                let r_gate = gate(graph, 1)?;
                let reset = self.activate(graph, &f[0], r_gate, true)?;
                let x = self.gate(graph, &input, 2)?;
                let own = self.row(&direction.bias[1], 2);
                let sum = if separate {
                    let inner = match &before {
                        Some(before) => {
                            let h = self.gate(graph, before, 2)?;
                            self.apply(graph, "Add", vec![h, own])?
                        }
                        None => own,
                    };
                    let inner = self.apply(graph, "Mul", vec![reset, inner])?;
                    self.apply(graph, "Add", vec![x, inner])?
                } else {
                    let x = self.apply(graph, "Add", vec![x, own])?;
                    match h {
                        Some(h) => {
                            let h = self.apply(graph, "Mul", vec![reset, h.clone()])?;
                            let r = self.gate(graph, r, 2)?;
                            let h = self.apply(graph, "MatMul", vec![h, r])?;
                            self.apply(graph, "Add", vec![x, h])?
                        }
                        None => x,
                    }
                };
                let candidate = self.activate(graph, &f[1], sum, true)?;
                // h~ + z (h - h~), which has each gate once.
                let Some(h) = h else {
                    let rest = self.apply(graph, "Sub", vec![constant(vec![], vec![1.0]), z])?;
                    return Ok((self.apply(graph, "Mul", vec![rest, candidate])?, None));
                };
                let change = self.apply(graph, "Sub", vec![h.clone(), candidate.clone()])?;
                let change = self.apply(graph, "Mul", vec![z, change])?;
                Ok((self.apply(graph, "Add", vec![candidate, change])?, None))
            }
            _ => {
                let sum = gate(graph, 0)?;
                Ok((self.activate(graph, &f[0], sum, true)?, None))
            }
        }
    }
}

/// The constants of direction `d`, and its functions.
fn direction(network: &Network, d: usize, sizes: [usize; 3]) -> Result<Direction> {
    let Network { call, hidden, .. } = network;
    let [directions, inputs, width] = sizes;
    let transposed = |index: usize, cols: usize| -> Result<Value> {
        let (values, found) = (call.floats(index)?, call.shape(index)?);
        if found != [directions, width, cols] {
            return Err(NodeError::shape(&[found], "directions x gates * hidden x entries"));
        }
        let of = |k: usize| values[d * width * cols + (k % width) * cols + k / width];
        Ok(constant(vec![cols, width], (0..cols * width).map(of).collect()))
    };
    let list = |index: usize, each: usize| -> Result<Option<Vec<f64>>> {
        if call.optional(index).is_none() {
            return Ok(None);
        }
        let (values, found) = (call.floats(index)?, call.shape(index)?);
        if found != [directions, each] {
            return Err(NodeError::shape(&[found], "a list for every direction"));
        }
        Ok(Some(values[d * each..(d + 1) * each].to_vec()))
    };
    let bias = list(3, 2 * width)?.unwrap_or_else(|| vec![0.0; 2 * width]);
    let peepholes = if call.op == "LSTM" { list(7, 3 * hidden)? } else { None };
    let usual = defaults(call.op);
    let names = call.attributes.strings("activations")?;
    let [alphas, betas] = ["activation_alpha", "activation_beta"].map(|name| call.attributes.floats(name));
    let (alphas, betas) = (alphas?.unwrap_or_default(), betas?.unwrap_or_default());
    let (mut functions, n) = (Vec::new(), usual.len());
    // Numbers are given one after the other to the functions that take any.
    let (mut alpha, mut beta) = (alphas.into_iter(), betas.into_iter());
    for k in 0..n * directions {
        let name = match &names {
            Some(names) => names.get(k).cloned().unwrap_or_else(|| usual[k % n].to_owned()),
            None => usual[k % n].to_owned(),
        };
        let takes = ["affine", "hardsigmoid"].contains(&&*name.to_lowercase());
        let numbers = if takes { (alpha.next(), beta.next()) } else { (None, None) };
        if k / n == d {
            functions.push((name, numbers.0, numbers.1));
        }
    }
    let (w, r) = (transposed(1, inputs)?, transposed(2, *hidden)?);
    Ok(Direction {
        weights: [w, r],
        bias: [bias[..width].to_vec(), bias[width..].to_vec()],
        peepholes,
        functions,
    })
}

/// The state before the first step: input `index`, if it is not all zeros.
fn initial(
    graph: &mut Lowering,
    network: &Network,
    index: usize,
    d: usize,
    by_batch: bool,
) -> Result<Option<Value>> {
    let Some(value) = network.call.optional(index) else { return Ok(None) };
    let zero = |tensor: &crate::onnx::tensor::Tensor| matches!(&tensor.data, Data::Float(values) if values.iter().all(|v| *v == 0.0));
    if matches!(value, Value::Constant(tensor) if zero(tensor)) {
        return Ok(None);
    }
    let (batch, hidden) = (network.batch, network.hidden);
    let directions = shapes::count(value.shape())? / (batch * hidden).max(1);
    let source = |b: usize, k: usize| {
        if by_batch { (b * directions + d) * hidden + k } else { (d * batch + b) * hidden + k }
    };
    let layout = ndarray::ArrayD::from_shape_fn(vec![batch, hidden], |at| source(at[0], at[1]));
    if value.shape().len() != 3 || layout.iter().any(|&at| at >= directions * batch * hidden) {
        return Err(NodeError::shape(&[value.shape()], "a state for every direction and sequence"));
    }
    graph.rearrange(network.call, &[value], &layout, 0.0).map(Some)
}

/// All steps of all directions.
pub(super) fn recurrent(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let by_batch = call.int("layout", 0)? != 0;
    let x = call.input(0)?.clone();
    let &[first, second, inputs] = x.shape() else {
        return Err(NodeError::shape(&[x.shape()], "steps x batch x entries"));
    };
    let (steps, batch) = if by_batch { (second, first) } else { (first, second) };
    let directions = match call.attributes.string("direction")?.unwrap_or("forward") {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(wrong("direction", other, "forward, reverse or bidirectional")),
    };
    let gates = match call.op {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let hidden = call.int("hidden_size", 0)?;
    let hidden = usize::try_from(hidden).ok().filter(|&h| h > 0 && h <= super::MAX_ENTRIES);
    let hidden = hidden.or_else(|| call.shape(2).ok()?.get(2).copied());
    let hidden = hidden.filter(|&h| h > 0).ok_or_else(|| wrong("hidden_size", "0", "a positive number"))?;
    shapes::count(&[steps, directions.len(), batch, gates, hidden])?;
    if steps > MOST_STEPS {
        let accepted = "at most 4096, each of which becomes nodes of its own";
        return Err(wrong("the number of steps", steps.to_string(), accepted));
    }
    if call.optional(4).is_some() {
        let lengths = call.ints(4, "")?.unwrap_or_default();
        if lengths.iter().any(|&n| usize::try_from(n) != Ok(steps)) {
            let accepted = "the length of the whole sequence";
            return Err(wrong("a sequence length", format!("{lengths:?}"), accepted));
        }
    }
    let clip = call.attributes.float("clip")?.filter(|clip| *clip > 0.0);
    let network = Network { call, gates, hidden, batch, clip };
    // By direction: the states after every step, in the order of the steps; the last; the last of the cell.
    let (mut all, mut last, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for (d, &reverse) in directions.iter().enumerate() {
        let own = direction(&network, d, [directions.len(), inputs, gates * hidden])?;
        let mut h = initial(graph, &network, 5, d, by_batch)?;
        let mut c = if call.op == "LSTM" { initial(graph, &network, 6, d, by_batch)? } else { None };
        let mut states = Vec::new();
        for k in 0..steps {
            let t = if reverse { steps - 1 - k } else { k };
            let source = |b: usize, i: usize| {
                if by_batch { (b * steps + t) * inputs + i } else { (t * batch + b) * inputs + i }
            };
            let layout = ndarray::ArrayD::from_shape_fn(vec![batch, inputs], |at| source(at[0], at[1]));
            let x = graph.rearrange(call, &[&x], &layout, 0.0)?;
            let (next, cell) = network.step(graph, &own, &x, (h.as_ref(), c.as_ref()))?;
            states.push(next.clone());
            (h, c) = (Some(next), cell);
        }
        if reverse {
            states.reverse();
        }
        all.push(states);
        let none = || NodeError::shape(&[call.shape(0).unwrap_or_default()], "at least one step");
        last.push(h.ok_or_else(none)?);
        cells.extend(c);
    }
    let n = batch * hidden;
    let order: Vec<&Value> = (0..steps).flat_map(|t| all.iter().map(move |states| &states[t])).collect();
    let dirs = directions.len();
    let shape = if by_batch { vec![batch, steps, dirs, hidden] } else { vec![steps, dirs, batch, hidden] };
    let y = ndarray::ArrayD::from_shape_fn(shape, |at| {
        let (t, d, b) = if by_batch { (at[1], at[2], at[0]) } else { (at[0], at[1], at[2]) };
        (t * dirs + d) * n + b * hidden + at[3]
    });
    let mut results = vec![graph.rearrange(call, &order, &y, 0.0)?];
    let shape = if by_batch { vec![batch, dirs, hidden] } else { vec![dirs, batch, hidden] };
    let ends = ndarray::ArrayD::from_shape_fn(shape, |at| {
        let (d, b) = if by_batch { (at[1], at[0]) } else { (at[0], at[1]) };
        d * n + b * hidden + at[2]
    });
    for states in [&last, &cells] {
        if !states.is_empty() {
            let states: Vec<&Value> = states.iter().collect();
            results.push(graph.rearrange(call, &states, &ends, 0.0)?);
        }
    }
    Ok(results)
}
