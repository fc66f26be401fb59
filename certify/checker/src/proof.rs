//! The tree of a proof: sets of inputs that together cover the one that was asked about, and for each and every
//! disjunct a linear function that proves it impossible there.
//!
//! Nothing that a certificate says is taken for true. Slopes, weights and multipliers only choose among sound
//! bounds, which are computed here.

use std::sync::Arc;

use crate::bounds::{Inputs, Linear, State, Via, gamma};
use crate::claim::{Atom, Region};
use crate::model::{Kind, Model};
use crate::text::Lines;
use crate::{Refusal, Result};

/// A tree may not be deeper.
const DEEPEST: usize = 10_000;

/// `sign (value[entry] - point) >= 0`.
#[derive(Clone, Copy)]
struct Cut {
    value: usize,
    entry: usize,
    above: bool,
    point: f64,
}

/// A subproblem that is still to be proved.
struct Open {
    region: usize,
    inputs: Arc<Inputs>,
    /// What is known from its parent.
    known: Option<Arc<State>>,
    cuts: Vec<Cut>,
    disjuncts: Vec<usize>,
    depth: usize,
}

struct Checker<'a, 'l> {
    model: &'a Model,
    regions: &'a [Region],
    /// Whether evaluations in f32 are meant.
    single: bool,
    lines: &'a mut Lines<'l>,
    /// Subproblems so far.
    count: usize,
}

/// Checks a proof to its end; gives the number of its subproblems.
pub(crate) fn check(model: &Model, regions: &[Region], single: bool, lines: &mut Lines) -> Result<usize> {
    let mut checker = Checker { model, regions, single, lines, count: 0 };
    let root = |(region, of): (usize, &Region)| Open {
        region,
        inputs: Arc::new(of.inputs.clone()),
        known: None,
        cuts: Vec::new(),
        disjuncts: (0..of.disjuncts.len()).collect(),
        depth: 0,
    };
    let mut open: Vec<Open> = regions.iter().enumerate().map(root).collect();
    open.reverse();
    while let Some(next) = open.pop() {
        let children = checker.node(next)?;
        open.extend(children.into_iter().rev());
    }
    match checker.lines.next() {
        Some("end") if checker.lines.next().is_none() => Ok(checker.count),
        line => {
            Err(Refusal::Rejected(format!("something follows the proof: `{}`", line.unwrap_or_default())))
        }
    }
}

impl Checker<'_, '_> {
    fn fail<T>(&self, what: &str) -> Result<T> {
        Err(Refusal::Rejected(format!("line {}, subproblem {}: {what}", self.lines.number(), self.count)))
    }

    /// Checks a subproblem; its children.
    fn node(&mut self, mut open: Open) -> Result<Vec<Open>> {
        self.count += 1;
        if open.depth > DEEPEST {
            return self.fail("the tree is too deep");
        }
        let state = match (self.lines.next(), &open.known) {
            (Some("box"), _) => self.bounded(&open)?,
            (Some("part"), Some(known)) => {
                let mut state = State::clone(known);
                state.restrict(open.inputs.clone());
                for cut in &open.cuts {
                    state.cut(self.model, (cut.value, cut.entry), cut.point, cut.above);
                }
                state
            }
            (None, _) => return self.fail("the proof ends before all is proved"),
            (Some(line), _) => {
                return self
                    .fail(&format!("`{}` where a subproblem should begin", line.get(..40).unwrap_or(line)));
            }
        };
        let mut clipped: Vec<Inputs> = open.disjuncts.iter().map(|_| Inputs::clone(&open.inputs)).collect();
        let mut refuted = vec![state.empty && !state.undefined; open.disjuncts.len()];
        let (mut plain, mut special) = (Vec::new(), Vec::new());
        while let Some(rest) = self.lines.word("row") {
            let all = &self.regions[open.region].disjuncts;
            let Some(number) = rest.parse().ok().filter(|d: &usize| *d < all.len()) else {
                return self.fail("a row for a disjunct that is none");
            };
            let (function, via, constant) = self.row(&state, &open.cuts, &all[number])?;
            // One that is no longer open is read all the same.
            let Some(place) = open.disjuncts.iter().position(|&d| d == number) else { continue };
            if via.is_empty() && !constant {
                plain.push((place, function));
            } else {
                special.push((place, function, via, constant));
            }
        }
        let mut take = |place: usize, bound: f64, a: &mut dyn Iterator<Item = f64>| {
            if bound > 0.0 {
                refuted[place] |= !state.undefined;
            } else if !state.undefined {
                clip(&state.inputs, &mut clipped[place], bound, a);
            }
        };
        // Those with the lines of the state side by side.
        for rows in plain.chunks(8) {
            let functions: Vec<Linear> = rows.iter().map(|(_, function)| function.clone()).collect();
            let (bounds, a) = state.bound::<8>(self.model, self.model.output, &functions, None, false);
            for (r, (place, _)) in rows.iter().enumerate() {
                take(*place, bounds[r], &mut a.iter().map(|a| a[r]));
            }
        }
        for (place, function, via, constant) in special {
            let output = self.model.output;
            let (bounds, a) = state.bound::<1>(self.model, output, &[function], Some(&via), constant);
            take(place, bounds[0], &mut a.iter().map(|a| a[0]));
        }
        let mut hull: Option<Inputs> = None;
        let mut still = Vec::new();
        for ((disjunct, refuted), clipped) in open.disjuncts.iter().zip(refuted).zip(clipped) {
            if refuted || clipped.lower.iter().zip(&clipped.upper).any(|(l, u)| l > u) {
                continue;
            }
            still.push(*disjunct);
            hull = Some(match hull {
                None => clipped,
                Some(mut hull) => {
                    hull.lower.iter_mut().zip(&clipped.lower).for_each(|(hull, l)| *hull = hull.min(*l));
                    hull.upper.iter_mut().zip(&clipped.upper).for_each(|(hull, u)| *hull = hull.max(*u));
                    hull
                }
            });
        }
        open.disjuncts = still;
        if let Some(hull) = hull {
            open.inputs = Arc::new(hull);
        }
        open.known = Some(Arc::new(state));
        open.depth += 1;
        self.children(open)
    }

    /// How a subproblem that is not proved goes on.
    fn children(&mut self, open: Open) -> Result<Vec<Open>> {
        let child = |open: &Open| Open {
            inputs: open.inputs.clone(),
            known: open.known.clone(),
            cuts: open.cuts.clone(),
            disjuncts: open.disjuncts.clone(),
            ..*open
        };
        let line = self.lines.peek().unwrap_or_default();
        let goes_on = |kind: &str| line.split(' ').next() == Some(kind);
        if !["again", "fork", "split", "cut"].into_iter().any(goes_on) {
            if open.disjuncts.is_empty() {
                return Ok(Vec::new());
            }
            let names: Vec<String> = open.disjuncts.iter().take(5).map(ToString::to_string).collect();
            return self.fail(&format!("a leaf in which disjuncts {} are not refuted", names.join(", ")));
        }
        self.lines.next();
        let mut words = line.splitn(5, ' ');
        let kind = words.next().unwrap_or_default();
        match kind {
            // The same once more, with other intervals.
            "again" => Ok(vec![open]),
            // Disjuncts on their own, all that are open among them.
            "fork" => {
                let list: Option<Vec<usize>> =
                    words.flat_map(|rest| rest.split(' ')).map(|d| d.parse().ok()).collect();
                let all = self.regions[open.region].disjuncts.len();
                let list = list.filter(|list| list.iter().all(|d| *d < all));
                let list = list.filter(|list| open.disjuncts.iter().all(|d| list.contains(d)));
                let Some(list) = list else {
                    return self.fail("a fork without all disjuncts that are not refuted");
                };
                Ok(list.into_iter().map(|d| Open { disjuncts: vec![d], ..child(&open) }).collect())
            }
            _ => {
                let mut number = || words.next().unwrap_or_default();
                let slot = if kind == "cut" { number().parse().ok() } else { Some(0_usize) };
                let (entry, point) = (number().parse::<usize>().ok(), crate::text::number(number()));
                let (Some(slot), Some(entry), Some(point)) = (slot, entry, point.filter(|p| p.is_finite()))
                else {
                    return self.fail("a cut that is none");
                };
                let value = if kind == "split" {
                    Some(0)
                } else {
                    self.input_of(words.next().unwrap_or_default(), slot)
                };
                let Some(value) = value.filter(|&v| entry < self.model.len(v)) else {
                    return self.fail("a cut of a value that is none");
                };
                Ok([false, true]
                    .map(|above| {
                        let mut child = child(&open);
                        if value == 0 {
                            let inputs = Arc::make_mut(&mut child.inputs);
                            let end = if above { &mut inputs.lower[entry] } else { &mut inputs.upper[entry] };
                            *end = if above { end.max(point) } else { end.min(point) };
                        } else {
                            child.cuts.push(Cut { value, entry, above, point });
                        }
                        child
                    })
                    .into())
            }
        }
    }

    /// The value that a node reads.
    fn input_of(&self, name: &str, slot: usize) -> Option<usize> {
        let node = self
            .model
            .nodes
            .iter()
            .find(|node| node.name == name && !matches!(node.kind, Kind::Affine(_)))?;
        node.inputs.get(slot).copied()
    }

    /// The intervals of a subproblem, all anew.
    fn bounded(&mut self, open: &Open) -> Result<State> {
        let mut state = State::new(open.inputs.clone(), self.model, self.single);
        for (index, node) in self.model.nodes.iter().enumerate() {
            let mut slopes =
                vec![[0.0; 2]; if matches!(node.kind, Kind::Function(_)) { node.len } else { 0 }];
            if !matches!(node.kind, Kind::Affine(_)) {
                for (slot, &v) in node.inputs.iter().enumerate() {
                    if let Some(known) = &open.known {
                        for i in 0..self.model.len(v) {
                            state.narrow(v, i, known.lower[v][i], known.upper[v][i]);
                        }
                    }
                    for cut in open.cuts.iter().filter(|cut| cut.value == v) {
                        let [low, high] = if cut.above {
                            [cut.point, f64::INFINITY]
                        } else {
                            [f64::NEG_INFINITY, cut.point]
                        };
                        state.narrow(v, cut.entry, low, high);
                    }
                    if self.lines.peek().and_then(|l| l.strip_prefix("bend "))
                        == Some(&format!("{slot} {}", node.name))
                    {
                        self.lines.next();
                        for (word, sign) in [("below", 1.0), ("above", -1.0)] {
                            while let Some(list) = self.lines.word(word) {
                                match crate::text::entries(list, self.model.len(v)) {
                                    Some(entries) => state.tighten(self.model, v, &entries, sign),
                                    None => return self.fail("entries that are none"),
                                }
                            }
                        }
                        if let Some(list) = self.lines.word("lines") {
                            match crate::text::lines(list, slopes.len()) {
                                Some(found) => slopes = found,
                                None => return self.fail("lines that are none"),
                            }
                        }
                    }
                }
            }
            state.advance(self.model, slopes);
            debug_assert_eq!(state.lower.len(), index + 2);
        }
        Ok(state)
    }

    /// A function that is nowhere positive where all of these atoms hold, its slopes, and whether its lines are
    /// constants.
    fn row(&mut self, state: &State, cuts: &[Cut], atoms: &[Atom]) -> Result<(Linear, Via, bool)> {
        let mut weights = vec![1.0; 1];
        if let Some(list) = self.lines.word("weights") {
            weights = crate::text::numbers(list);
        }
        let multipliers = self.lines.word("multipliers").map_or(Vec::new(), crate::text::numbers);
        let (mut via, constant) = (Via::new(), self.lines.word("constant").is_some());
        while let Some(name) = self.lines.word("via") {
            let node =
                self.model.nodes.iter().position(|n| n.name == name && matches!(n.kind, Kind::Function(_)));
            let slopes = self.lines.word("slopes").map_or(Vec::new(), crate::text::numbers);
            match node.filter(|&node| self.model.nodes[node].len == slopes.len()) {
                Some(node) => via.insert(node, slopes),
                None => return self.fail("slopes of a function that is none"),
            };
        }
        let usable = |x: &f64| *x >= 0.0 && x.is_finite();
        if !weights.iter().chain(&multipliers).all(usable) {
            return self.fail("a weight or multiplier that is negative or no number");
        }
        if weights.len() != atoms.len() || multipliers.len() > cuts.len() || weights.iter().all(|w| *w == 0.0)
        {
            return self.fail("not as many weights or multipliers as there should be");
        }
        let function = combined(state, self.model, (atoms, &weights), (cuts, &multipliers));
        Ok((function, via, constant))
    }
}

/// The sum of atoms with weights, less multiples of what cuts say is not negative.
fn combined(
    state: &State,
    model: &Model,
    (atoms, weights): (&[Atom], &[f64]),
    (cuts, multipliers): (&[Cut], &[f64]),
) -> Linear {
    let mut sum = Linear::default();
    let (mut size, mut count) = (0.0, 0);
    let mut constant = |sum: &mut Linear, c: f64| {
        sum.constant += c;
        size += c.abs();
        count += 1;
    };
    for (atom, &weight) in atoms.iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
        // What an evaluation in f32 compares with may be rounded, too.
        let bound = if state.is_single() { atom.bound.max(f64::from(atom.bound as f32)) } else { atom.bound };
        constant(&mut sum, -(weight * bound));
        for (value, terms) in [(model.output, &atom.y), (0, &atom.x)] {
            for &(i, c) in terms {
                let product = weight * c;
                // The product was rounded.
                let most = state.lower[value][i].abs().max(state.upper[value][i].abs());
                let rounding = gamma(1) * (product.abs() * most) + f64::MIN_POSITIVE * (1.0 + most);
                sum.error += if weight == 1.0 { 0.0 } else { rounding };
                sum.terms.push((value, i, product));
            }
        }
    }
    for (cut, &multiplier) in cuts.iter().zip(multipliers).filter(|(_, m)| **m != 0.0) {
        let sign = if cut.above { -multiplier } else { multiplier };
        sum.terms.push((cut.value, cut.entry, sign));
        constant(&mut sum, -(sign * cut.point));
    }
    sum.error = (sum.error + gamma(count) * size) * (1.0 + gamma(sum.terms.len()));
    sum
}

/// Cuts off where a function is positive that is at least `bound`, and at most so at a corner from which it
/// rises with slopes `a`.
fn clip(inputs: &Inputs, clipped: &mut Inputs, bound: f64, a: &mut dyn Iterator<Item = f64>) {
    if !(bound <= 0.0 && bound.is_finite()) || inputs.ball.is_some() {
        return;
    }
    for (i, a) in a.enumerate() {
        let reach = (-bound / a.abs()).next_up();
        if reach.is_finite() && a > 0.0 {
            clipped.upper[i] = clipped.upper[i].min((inputs.lower[i] + reach).next_up());
        } else if reach.is_finite() && a < 0.0 {
            clipped.lower[i] = clipped.lower[i].max((inputs.upper[i] - reach).next_down());
        }
    }
}
