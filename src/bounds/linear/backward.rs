//! Lower bounds of linear functions of a value, pulled back to the network's
//! input (CROWN, Zhang et al. 2018, Theorem 3.2; `DeepPoly`, Singh et al. 2019).

use super::Relaxed;
use super::slopes::{self, Slopes};
use super::step::{Kind, Plane, Step};
use crate::bounds::transpose::Pending;
use crate::bounds::{Ball, Evaluation, Norm};
use crate::graph::ValueId;
use crate::kernels::{Entries, Kernel, LANES, Lane, Panel, choose, dispatch};
use crate::ops::Workspace;
use crate::rounding::{FLUSHED, gamma};

/// For each lane the box that its function is bounded over.
pub(super) type Boxes = [u8; LANES];

/// A panel of linear functions on their way back: `constant + sum over values
/// of pending . value`, each known up to `error`.
pub(super) struct Pass<const B: usize> {
    pub(super) pending: Pending,
    constant: Lane,
    error: Lane,
    boxes: Boxes,
}

/// The number of each lane's box; one for all if there is but one box.
#[inline(always)]
fn pick<const B: usize>(of_boxes: &[f64; B], boxes: &Boxes) -> Lane {
    let mut lane = Lane([of_boxes[0]; LANES]);
    if B > 1 {
        for (x, &of) in lane.0.iter_mut().zip(boxes) {
            // As many as a power of two, so this checks the index.
            *x = of_boxes[usize::from(of) & (B - 1)];
        }
    }
    lane
}

impl<const B: usize> Relaxed<'_, B> {
    /// Lower bounds, over all inputs of each lane's box, of the functions that
    /// `start` adds up; NaN or `-inf` if there is none. Lines are the default
    /// ones, or chosen by `slopes`, which also learns the coefficients at
    /// every function and product.
    pub(super) fn lower(
        &self,
        from: ValueId,
        boxes: Boxes,
        start: impl FnOnce(&mut Pass<B>, &mut Workspace),
        mut slopes: Option<&mut Slopes>,
        memory: &mut Workspace,
    ) -> Lane {
        let mut pass = Pass { pending: Pending::new(from), constant: Lane::ZERO, error: Lane::ZERO, boxes };
        start(&mut pass, memory);
        for index in (0..from).rev() {
            if let Some(a) = pass.pending.take(index + 1) {
                let bends = !matches!(self.steps[index].kind, Kind::Affine { .. });
                let learned = slopes.as_mut().and_then(|slopes| slopes.coefficients.get_mut(index));
                if let Some(learned) = learned.filter(|_| bends) {
                    *learned = Some(a.clone());
                }
                self.through(index, a, &mut pass, slopes.as_deref(), memory);
            }
        }
        let mut a = pass.pending.take(0);
        let bounds = self.concretise(&pass, a.as_mut());
        match (slopes, a) {
            (Some(slopes), a) => slopes.input = a,
            (None, Some(a)) => memory.give_back(a),
            (None, None) => (),
        }
        bounds
    }

    /// Replaces the coefficients `a` on the result of a node by ones on its
    /// inputs.
    fn through(
        &self,
        index: usize,
        mut a: Panel,
        pass: &mut Pass<B>,
        slopes: Option<&Slopes>,
        memory: &mut Workspace,
    ) {
        let step = &self.steps[index];
        let boxes = pass.boxes;
        match &step.kind {
            Kind::Affine { offset } => {
                pass.absorb(&mut a, step, |i, _| Lane([offset.get(i).copied().unwrap_or(0.0); LANES]));
                pass.add_underflow(step);
                for (v, part) in self.plan.transpose.pull(index, a, memory, |_| ()) {
                    self.deposit(pass, v, part, memory);
                }
            }
            Kind::Elementwise { lines, choices } => {
                let chosen = slopes.and_then(|s| s.chosen.get(index)?.as_deref()).zip(choices.as_ref());
                match chosen {
                    None => self.relax(index, a, pass, memory, |i, a| {
                        let [lower, upper] = lines[i].offset.each_ref().map(|of| pick(of, &boxes));
                        let offsets = a.map(|lane, a| choose(a < 0.0, upper.0[lane], lower.0[lane]));
                        let [lower, upper] = lines[i].slope.each_ref().map(|of| pick(of, &boxes));
                        *a = a.map(|lane, a| a * choose(a < 0.0, upper.0[lane], lower.0[lane]));
                        offsets
                    }),
                    Some((chosen, choices)) => self.relax(index, a, pass, memory, |i, a| {
                        let mut offsets = Lane::ZERO;
                        for (lane, &of) in boxes.iter().enumerate() {
                            let of = usize::from(of) & (B - 1);
                            let line = slopes::line(&lines[i], &choices[i], of, chosen[i].0[lane], a.0[lane]);
                            a.0[lane] *= line.slope;
                            offsets.0[lane] = line.offset;
                        }
                        offsets
                    }),
                }
            }
            Kind::Product { planes } => self.planes(index, planes, a, pass, memory),
        }
    }

    /// Through the planes of a product.
    fn planes(
        &self,
        index: usize,
        planes: &[Vec<[Plane; 2]>],
        mut a: Panel,
        pass: &mut Pass<B>,
        memory: &mut Workspace,
    ) {
        let (inputs, step, boxes) = (&self.graph.nodes[index].inputs, &self.steps[index], pass.boxes);
        let mut parts: Vec<Panel> = inputs.iter().map(|&v| memory.panel(self.graph.len(v))).collect();
        pass.absorb(&mut a, step, |i, a| {
            let mut offsets = Lane::ZERO;
            for (of, planes) in planes.iter().enumerate() {
                for (plane, above) in planes[i].iter().zip([false, true]) {
                    // The functions that take this plane.
                    let takes = |lane: usize, a: f64| {
                        let here = B == 1 || usize::from(boxes[lane]) == of;
                        if here && (a < 0.0) == above { a } else { 0.0 }
                    };
                    let taken = a.map(takes);
                    if taken.is_zero() {
                        continue;
                    }
                    for (offset, &a) in offsets.0.iter_mut().zip(&taken.0) {
                        *offset = if a == 0.0 { *offset } else { plane.offset };
                    }
                    for &(v, j, c) in &plane.terms {
                        let sum = parts[v].entry(j);
                        sum.0.iter_mut().zip(&taken.0).for_each(|(s, a)| *s += a * c);
                    }
                }
            }
            offsets
        });
        pass.add_underflow(step);
        memory.give_back(a);
        for (&v, part) in inputs.iter().zip(parts) {
            self.deposit(pass, v, part, memory);
        }
    }

    /// Through the lines of an elementwise function, and at once through the affine map before it if the
    /// lines hold what that costs.
    fn relax(
        &self,
        index: usize,
        mut a: Panel,
        pass: &mut Pass<B>,
        memory: &mut Workspace,
        // Copied and not borrowed, as calls through a reference are not inlined.
        line: impl Fn(usize, &mut Lane) -> Lane + Copy,
    ) {
        let (v, step) = (self.graph.nodes[index].inputs[0], &self.steps[index]);
        pass.add_underflow(step);
        let Some(before) = v.checked_sub(1).filter(|&before| self.plan.folded[before]) else {
            pass.absorb(&mut a, step, line);
            return self.deposit(pass, v, a, memory);
        };
        pass.add_underflow(&self.steps[before]);
        let parts = self.plan.transpose.pull(before, a, memory, |block| pass.absorb(block, step, line));
        for (v, part) in parts {
            self.deposit(pass, v, part, memory);
        }
    }

    /// Adds coefficients to what is pending on a value.
    fn deposit(&self, pass: &mut Pass<B>, v: ValueId, part: Panel, memory: &mut Workspace) {
        let Pass { pending, error, boxes, .. } = pass;
        pending.add(v, part, memory, |sum, part| {
            let cost = dispatch(Merge { sum, part, sizes: &self.sizes[v], boxes: *boxes });
            error.0.iter_mut().zip(cost.0).for_each(|(error, cost)| *error += f64::EPSILON * cost);
        });
    }

    /// The least values over each lane's box.
    fn concretise(&self, pass: &Pass<B>, mut a: Option<&mut Panel>) -> Lane {
        let n = self.sides.len();
        let total =
            self.graph.nodes.iter().map(|node| node.shape.iter().product::<usize>()).sum::<usize>() + n;
        let reach = |a| dispatch(Reach { a, sides: &self.sides, boxes: pass.boxes });
        let (centre, radius) = a.as_deref_mut().map_or((Lane::ZERO, Lane::ZERO), reach);
        Lane(std::array::from_fn(|lane| {
            let (constant, error, centre) = (pass.constant.0[lane], pass.error.0[lane], centre.0[lane]);
            let mut least = centre - radius.0[lane] * (1.0 + gamma(n));
            if let (Some((ball, x)), Some(a)) = (&self.ball, &a) {
                let row: Vec<f64> = (0..n).map(|i| a.get(i).0[lane]).collect();
                // A subnormal entry may be read as zero, outside the ball.
                let flushed = match self.plan.evaluation {
                    Evaluation::Real => 0.0,
                    Evaluation::Float32 => 2.0 * FLUSHED * row.iter().map(|a| a.abs()).sum::<f64>(),
                };
                least = least.max(in_ball(&row, ball, x) - flushed);
            }
            // The sum of the errors was rounded too; the last three
            // operations round once each.
            let error =
                (error + gamma(0) * (constant.abs() + centre.abs() + least.abs())) * (1.0 + gamma(total));
            (constant + least - error).next_down()
        }))
    }
}

impl<const B: usize> Pass<B> {
    /// Adds a constant to the function of a lane.
    pub(super) fn add_constant(&mut self, lane: usize, constant: f64) {
        self.constant.0[lane] += constant;
        self.error.0[lane] += gamma(0) * (constant.abs() + self.constant.0[lane].abs());
    }

    /// Adds to what the function of a lane may be wrong by.
    pub(super) fn add_error(&mut self, lane: usize, error: f64) {
        self.error.0[lane] += error;
    }

    /// Adds what underflow costs at a node.
    fn add_underflow(&mut self, step: &Step<B>) {
        let floor = pick(&step.floor, &self.boxes);
        self.error.0.iter_mut().zip(floor.0).for_each(|(error, floor)| *error += floor);
    }

    /// For every coefficient that is not zero: adds `a * offset` to the
    /// constant and `|a| charge` to the error, where `each(entry, a)` gives the
    /// offsets and may change the coefficients. Entries that become zero are
    /// dropped.
    fn absorb(&mut self, a: &mut impl Entries, step: &Step<B>, each: impl FnMut(usize, &mut Lane) -> Lane) {
        let (charge, boxes) = (&step.charge[..], self.boxes);
        let (sums, costs) = if step.finite {
            dispatch(Absorb::<_, _, B, true> { a, charge, boxes, each })
        } else {
            dispatch(Absorb::<_, _, B, false> { a, charge, boxes, each })
        };
        for lane in 0..LANES {
            self.constant.0[lane] += sums.0[lane];
            self.error.0[lane] += costs.0[lane] + f64::EPSILON * self.constant.0[lane].abs();
        }
    }
}

/// The sums of [`Pass::absorb`]. Where constants or charges may be infinite,
/// zeros are left out one by one.
struct Absorb<'a, A, E, const B: usize, const FINITE: bool> {
    a: &'a mut A,
    charge: &'a [[f64; B]],
    boxes: Boxes,
    each: E,
}

impl<A: Entries, E: FnMut(usize, &mut Lane) -> Lane, const B: usize, const FINITE: bool> Kernel
    for Absorb<'_, A, E, B, FINITE>
{
    type Output = (Lane, Lane);

    #[inline(always)]
    fn run<const FUSED: bool>(mut self) -> (Lane, Lane) {
        let (mut sums, mut costs) = (Lane::ZERO, Lane::ZERO);
        self.a.update(|i, a| {
            let before = *a;
            let offsets = (self.each)(i, a);
            let charge = pick(&self.charge[i], &self.boxes);
            let counts = |x: f64, term: f64| if FINITE { term } else { choose(x == 0.0, 0.0, term) };
            let terms = before.map(|lane, x| counts(x, x * offsets.0[lane]));
            let charges = before.map(|lane, x| counts(x, x.abs() * charge.0[lane]));
            sums = sums.map(|lane, sum| sum + terms.0[lane]);
            costs = costs.map(|lane, cost| cost + charges.0[lane]);
            !a.is_zero()
        });
        (sums, costs)
    }
}

/// Adds a part to a sum; gives what its rounding may cost, in units of `EPSILON`.
struct Merge<'a, const B: usize> {
    sum: &'a mut Panel,
    part: &'a mut Panel,
    sizes: &'a [[f64; B]],
    boxes: Boxes,
}

impl<const B: usize> Kernel for Merge<'_, B> {
    type Output = Lane;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Lane {
        let mut costs = Lane::ZERO;
        self.part.update(|i, part| {
            let (sum, size) = (self.sum.entry(i), pick(&self.sizes[i], &self.boxes));
            *sum = sum.map(|lane, sum| sum + part.0[lane]);
            costs = costs.map(|lane, cost| {
                let sum = sum.0[lane];
                cost + choose(sum == 0.0, 0.0, sum.abs() * size.0[lane])
            });
            true
        });
        costs
    }
}

/// The values at the centre of the input set, and how far they reach to either side.
struct Reach<'a, const B: usize> {
    a: &'a mut Panel,
    sides: &'a [[[f64; B]; 2]],
    boxes: Boxes,
}

impl<const B: usize> Kernel for Reach<'_, B> {
    type Output = (Lane, Lane);

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> (Lane, Lane) {
        let (mut centre, mut radius) = (Lane::ZERO, Lane::ZERO);
        self.a.update(|i, a| {
            let [c, r] = self.sides[i].each_ref().map(|of| pick(of, &self.boxes));
            for (lane, a) in a.0.iter().enumerate() {
                centre.0[lane] += a * c.0[lane];
                radius.0[lane] += a.abs() * r.0[lane];
            }
            true
        });
        (centre, radius)
    }
}

/// A lower bound of `a . z` over a ball, by the dual norm.
fn in_ball(a: &[f64], ball: &Ball, centre: &[f64]) -> f64 {
    let n = a.len();
    let (mut middle, mut size) = (0.0, 0.0);
    for (a, c) in a.iter().zip(centre) {
        middle += a * c;
        size += (a * c).abs();
    }
    let dual = match ball.norm {
        Norm::Linf => a.iter().map(|a| a.abs()).sum(),
        // Scaled by the greatest entry: squares neither overflow nor vanish.
        Norm::L2 => {
            let most = a.iter().fold(0.0, |m: f64, a| m.max(a.abs()));
            if most == 0.0 {
                0.0
            } else {
                most * a.iter().map(|a| (a / most) * (a / most)).sum::<f64>().sqrt()
            }
        }
        Norm::L1 => a.iter().fold(0.0, |m: f64, a| if a.abs() > m || a.is_nan() { a.abs() } else { m }),
    };
    let reach = ball.eps * dual * (1.0 + gamma(n)) + crate::rounding::underflow(n) * (1.0 + ball.eps);
    middle - (reach + gamma(n) * size) * (1.0 + gamma(0))
}
