//! The order in which subproblems are bounded and cut: worst bound first, in rounds of a fixed size, so that
//! verdict, witness and count do not depend on the number of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::problem::{Base, Problem};
use super::subproblem::{Points, Subproblem};
use super::tree::{Evidence, Tree};
use super::witness::{Shown, judge};
use super::{Limits, Outcome, Progress, Verdict, Verifier, Witness, ascent, boxes};
use crate::attack::{Descent, descend};
use crate::bounds::linear::Effort;
use crate::kernels::LANES;
use crate::query::Region;

/// Subproblems that are cut in one round.
const ROUND: usize = 32;

/// Steps of descent from each starting point.
const DESCENT: u32 = 30;

/// Multiply-adds of the descents from random points: before anything is cut, and after so many rounds.
const DESCENDING: [f64; 2] = [1e9, 1e10];
const LATER: u64 = 8;

/// Rounds between two descents from the worst subproblems.
const BETWEEN: u64 = 4;

/// The worst subproblems that are descended in, where boxes are cut.
const NEAREST: usize = 16;

/// Steps of ascent before anything is cut, and after.
const STEPS: [usize; 2] = [20, 5];

/// How boxes are bounded.
const BOXES: Effort = Effort { tighten: true, choices: true, iterations: 0, influence: true, until: None };

/// How they are where intermediate values are cut afterwards, if it is affordable: multiply-adds.
pub(super) const OPTIMISED: Effort = Effort { iterations: 10, influence: false, ..BOXES };
const AFFORDABLE: f64 = 1e11;

impl Verifier<'_> {
    /// Whether some input in one of the regions is a violation of it. `confirm` has the last word on points
    /// (`x`, `y` of the `f32` network) that satisfy a region; it sees the query as it was written. `tick` is
    /// told of progress now and then; the search ends when it says no.
    ///
    /// # Panics
    /// If a region does not fit the network.
    #[must_use]
    pub fn verify(
        &self,
        regions: &[Region],
        confirm: &(dyn Fn(&[f32], &[f32]) -> bool + Sync),
        limits: &Limits,
        tick: &mut dyn FnMut(&Progress) -> bool,
    ) -> Outcome {
        let begin = Instant::now();
        let until = limits.timeout.and_then(|timeout| begin.checked_add(timeout));
        let problems: Vec<Problem> =
            regions.iter().map(|region| Problem::new(self, region, until, limits.prove)).collect();
        let search = Search {
            problems: &problems,
            bases: regions.iter().map(|_| None).collect(),
            confirm,
            until,
            limits,
            over: AtomicBool::new(false),
            open: BTreeMap::new(),
            newest: Vec::new(),
            bytes: 0,
            created: 0,
            progress: Progress { subproblems: 0, open: 0, lower: f64::NEG_INFINITY, depth: 0 },
            disagreement: None,
            rounds: 0,
            stuck: 0,
            least_stuck: f64::INFINITY,
            stopped: false,
            tree: limits.prove.then(|| Tree::new(regions.len())),
        };
        search.run(tick)
    }
}

struct Search<'a> {
    problems: &'a [Problem<'a>],
    /// What subproblems of a region share, by its number, where intermediate values are cut.
    bases: Vec<Option<Base<'a>>>,
    confirm: &'a (dyn Fn(&[f32], &[f32]) -> bool + Sync),
    until: Option<Instant>,
    limits: &'a Limits,
    /// Whether time is over.
    over: AtomicBool,
    /// By bound, then by age.
    open: BTreeMap<(i64, u64), Subproblem>,
    /// Those that go first as memory is short.
    newest: Vec<Subproblem>,
    bytes: usize,
    created: u64,
    progress: Progress,
    disagreement: Option<Witness>,
    rounds: u64,
    /// Subproblems in which nothing is left to cut.
    stuck: usize,
    least_stuck: f64,
    stopped: bool,
    /// What is cut where, if a proof is asked for.
    tree: Option<Tree>,
}

/// Results of a panel: its subproblems and points to look at.
type Bounded = (Vec<Subproblem>, Points);

impl Search<'_> {
    fn run(mut self, tick: &mut dyn FnMut(&Progress) -> bool) -> Outcome {
        let roots: Vec<Subproblem> = self
            .problems
            .iter()
            .zip(0..)
            .map(|(problem, number)| Subproblem::root(number, problem))
            .collect();
        let centre = |root: &Subproblem| -> Vec<f64> {
            root.input.lower.iter().zip(&root.input.upper).map(|(l, u)| 0.5 * l + 0.5 * u).collect()
        };
        for root in &roots {
            let region = self.problems[root.region as usize].region;
            let few = self.look(&vec![(root.region, centre(root))]);
            let more = few.or_else(|| {
                let descent = self.descent(7, DESCENT, 0);
                let points = descend(self.problems[0].verifier.graph, region, &[centre(root)], &descent);
                self.look(&points.into_iter().map(|x| (root.region, x)).collect())
            });
            if let Some(witness) = more {
                return self.outcome(Verdict::Sat, Some(witness), f64::NEG_INFINITY, None);
            }
        }
        let single = roots.len() == 1;
        let witness = self.bound(roots, |search, panel| {
            if single { search.boxes::<1>(panel, BOXES) } else { search.boxes::<LANES>(panel, BOXES) }
        });
        let witness = witness.or_else(|| {
            self.settle(tick);
            self.ascend_roots()
        });
        if let Some(witness) = witness {
            return self.outcome(Verdict::Sat, Some(witness), f64::NEG_INFINITY, None);
        }
        self.settle(tick);
        let root = self.progress.lower;
        if let Some(witness) = self.descend_far(DESCENDING[0], 1) {
            return self.outcome(Verdict::Sat, Some(witness), root, None);
        }
        while !(self.stopped || self.over.load(Ordering::Relaxed)) {
            let batch = self.take();
            if batch.is_empty() {
                break;
            }
            let witness = self.descend(&batch).or_else(|| self.round(batch));
            if let Some(witness) = witness {
                return self.outcome(Verdict::Sat, Some(witness), root, None);
            }
            self.settle(tick);
        }
        self.end(root)
    }

    /// Bounds the roots that cut intermediate values, each disjunct on its own, with lines of their own; then
    /// with optimised intermediate intervals where these cost little. A witness, if one was found.
    fn ascend_roots(&mut self) -> Option<Witness> {
        let ascent = |search: &Self, panel: Vec<Subproblem>| search.ascent(panel, STEPS[0]);
        let each = |s: Subproblem| -> Vec<Subproblem> {
            let of = |&d: &u32| Subproblem { open: vec![d], bound: f64::NEG_INFINITY, ..s.clone() };
            s.open.iter().map(of).collect()
        };
        let roots = self.take_roots();
        let witness = self.bound(roots.into_iter().flat_map(each).collect(), ascent);
        if witness.is_some() {
            return witness;
        }
        let mut regions: BTreeMap<u32, Subproblem> = BTreeMap::new();
        for root in self.take_roots() {
            match regions.get_mut(&root.region) {
                Some(region) => region.open.extend(root.open),
                None => drop(regions.insert(root.region, root)),
            }
        }
        let cost: f64 = regions.values().map(|root| root.optimising_cost(self.problems)).sum();
        // Nothing is written down of how intervals are optimised.
        if cost > AFFORDABLE || self.tree.is_some() {
            self.lay(regions.values());
            let mut parts: Vec<Subproblem> = regions.into_values().flat_map(each).collect();
            for part in &mut parts {
                if let Some(tree) = &mut self.tree {
                    part.place = tree.fork(part.place, part.open[0]);
                }
            }
            return self.bound(parts, ascent);
        }
        for (_, root) in regions {
            let witness = self.bound(vec![root], |search, panel| search.boxes::<1>(panel, OPTIMISED));
            if witness.is_some() {
                return witness;
            }
        }
        let roots = self.take_roots();
        self.lay(roots.iter());
        self.bound(roots.into_iter().flat_map(each).collect(), ascent)
    }

    /// Keeps what the parts of these roots share.
    fn lay<'r>(&mut self, roots: impl Iterator<Item = &'r Subproblem>) {
        for root in roots {
            let base = Base::new(self.problems, root);
            if let Some(tree) = &mut self.tree {
                let rows = format!("again\nbox\n{}", base.relaxed.intervals_proof(0));
                tree.note(root.place, &Evidence { intervals: String::new(), rows });
            }
            self.bases[root.region as usize] = Some(base);
        }
    }

    /// The open subproblems that cut intermediate values.
    fn take_roots(&mut self) -> Vec<Subproblem> {
        let (boxes, roots): (Vec<Subproblem>, Vec<Subproblem>) = std::mem::take(&mut self.open)
            .into_values()
            .partition(|s| self.problems[s.region as usize].by_input);
        self.bytes = 0;
        for subproblem in boxes {
            self.push(subproblem);
        }
        roots
    }

    /// The verdict when the search is over without a witness.
    fn end(mut self, root: f64) -> Outcome {
        let open = self.open.len() + self.newest.len();
        let lower = self.progress.lower;
        if self.over.load(Ordering::Relaxed) {
            let reason = format!("time was over with {open} subproblems open, the least bound {lower:.3e}");
            return self.outcome(Verdict::TimedOut, None, root, Some(reason));
        }
        if self.stopped {
            let reason = format!("stopped with {open} subproblems open, the least bound {lower:.3e}");
            return self.outcome(Verdict::Unknown, None, root, Some(reason));
        }
        if let Some(witness) = self.disagreement.take() {
            let reason = "the f32 network has the property at a point where, by its bounds, the network in the \
                          arithmetic of the search has not";
            return self.outcome(Verdict::Unknown, Some(witness), root, Some(reason.into()));
        }
        if self.stuck > 0 {
            let reason = format!(
                "{} subproblems have nothing left to cut, the least bound {:.3e}",
                self.stuck, self.least_stuck
            );
            return self.outcome(Verdict::Unknown, None, root, Some(reason));
        }
        self.outcome(Verdict::Unsat, None, root, None)
    }

    fn outcome(
        &self,
        verdict: Verdict,
        witness: Option<Witness>,
        root: f64,
        reason: Option<String>,
    ) -> Outcome {
        let tree = self.tree.as_ref().filter(|_| verdict == Verdict::Unsat);
        let graph = self.problems.first().map(|problem| problem.verifier.graph);
        let proof = tree.zip(graph).map(|(tree, graph)| tree.text(graph, self.problems.len()));
        Outcome { verdict, witness, root, progress: self.progress, reason, proof }
    }

    /// The next subproblems, worst bound first.
    fn take(&mut self) -> Vec<Subproblem> {
        let mut batch = Vec::new();
        while batch.len() < ROUND {
            let next = self.newest.pop().or_else(|| self.open.pop_first().map(|(_, s)| s));
            let Some(subproblem) = next else { break };
            self.bytes = self.bytes.saturating_sub(subproblem.bytes());
            batch.push(subproblem);
        }
        batch
    }

    fn push(&mut self, subproblem: Subproblem) {
        if subproblem.open.is_empty() {
            return;
        }
        if subproblem.candidates.is_empty() {
            self.stuck += 1;
            self.least_stuck = self.least_stuck.min(subproblem.bound);
            return;
        }
        self.progress.depth = self.progress.depth.max(subproblem.depth);
        self.bytes += subproblem.bytes();
        self.created += 1;
        if self.bytes > self.limits.memory {
            self.newest.push(subproblem);
        } else {
            self.open.insert((ordered(subproblem.bound), self.created), subproblem);
        }
    }

    /// Cuts subproblems and bounds their children. A witness, if one was found.
    fn round(&mut self, batch: Vec<Subproblem>) -> Option<Witness> {
        let problems = self.problems;
        let by_input = |s: &Subproblem| problems[s.region as usize].by_input;
        let over = |search: &Self| search.is_over();
        let cut = |subproblem: &Subproblem| -> Option<Vec<Subproblem>> {
            if over(self) {
                return None;
            }
            Some(if by_input(subproblem) {
                subproblem.children(&subproblem.candidates[0]).into()
            } else {
                ascent::cut(problems, &self.bases, subproblem).map_or(Vec::new(), Vec::from)
            })
        };
        let children: Option<Vec<Vec<Subproblem>>> = batch.par_iter().map(cut).collect();
        let Some(children) = children else {
            for subproblem in batch {
                self.push(subproblem);
            }
            return None;
        };
        let (mut boxes, mut others) = (Vec::new(), Vec::new());
        let mut children = children;
        if let Some(tree) = &mut self.tree {
            for (parent, children) in batch.iter().zip(&mut children) {
                if let Some(cut) = children.first().and_then(|child| child.last) {
                    let places = tree.cut(parent.place, cut);
                    children.iter_mut().zip(places).for_each(|(child, place)| child.place = place);
                }
                for child in children.iter_mut() {
                    let found = child.found.take().filter(|_| child.bound > 0.0);
                    if let Some(found) = found {
                        tree.note(child.place, &found);
                    }
                }
            }
        }
        for child in children.into_iter().flatten() {
            if child.bound > 0.0 {
                self.progress.subproblems += 1;
            } else if by_input(&child) {
                boxes.push(child);
            } else {
                others.push(child);
            }
        }
        others.sort_by_key(|child| child.region);
        self.bound(boxes, |search, panel| search.boxes::<LANES>(panel, BOXES))
            .or_else(|| self.bound(others, |search, panel| search.ascent(panel, STEPS[1])))
    }

    fn boxes<const B: usize>(&self, mut panel: Vec<Subproblem>, effort: Effort) -> Bounded {
        let points = boxes::bound::<B>(self.problems, &mut panel, effort);
        (panel, points)
    }

    fn ascent(&self, mut panel: Vec<Subproblem>, steps: usize) -> Bounded {
        let points = ascent::bound(self.problems, &self.bases, &mut panel, steps);
        (panel, points)
    }

    /// Bounds subproblems in panels and puts back what stays open. A witness, if one was found.
    fn bound(
        &mut self,
        subproblems: Vec<Subproblem>,
        bound: impl Fn(&Self, Vec<Subproblem>) -> Bounded + Sync,
    ) -> Option<Witness> {
        // Of one region each where intermediate values are cut, as those share most.
        let by_input = |s: &Subproblem| self.problems[s.region as usize].by_input;
        let regions = subproblems.chunk_by(|a, b| a.region == b.region || by_input(a) && by_input(b));
        let panels: Vec<&[Subproblem]> = regions.flat_map(|own| own.chunks(LANES)).collect();
        let results: Vec<(bool, Bounded, Option<Shown>)> = panels
            .into_par_iter()
            .map(|panel| {
                if self.is_over() {
                    // Not bounded anew; what it has of its parent still holds.
                    return (false, (panel.to_vec(), Vec::new()), None);
                }
                let bounded = bound(self, panel.to_vec());
                let shown = judge(self.problems, self.confirm, &bounded.1);
                (true, bounded, shown)
            })
            .collect();
        let mut witness = None;
        for (done, (panel, _), shown) in results {
            self.progress.subproblems += if done { panel.len() as u64 } else { 0 };
            for mut subproblem in panel {
                if let (Some(tree), Some(found)) = (&mut self.tree, subproblem.found.take()) {
                    tree.note(subproblem.place, &found);
                }
                if !done && subproblem.candidates.is_empty() {
                    subproblem.candidates.extend(subproblem.input_cut(|_| 1.0));
                }
                self.push(subproblem);
            }
            match shown {
                Some(Shown::Violation(found)) => witness = witness.or(Some(found)),
                Some(Shown::Disagreement(found)) => {
                    self.disagreement.get_or_insert(found);
                }
                None => (),
            }
        }
        witness
    }

    /// Descends from random points of the open regions, as many as cost little. A witness, if one was found.
    fn descend_far(&mut self, multiply_adds: f64, seed: u64) -> Option<Witness> {
        let graph = self.problems[0].verifier.graph;
        let once: usize =
            graph.nodes.iter().zip(1..).map(|(node, v)| node.op.multiply_adds(graph.len(v))).sum();
        let affordable = multiply_adds / (3.0 * f64::from(DESCENT) * once as f64);
        let regions: BTreeSet<u32> = self.open.values().map(|s| s.region).collect();
        let restarts = (affordable / regions.len().max(1) as f64).clamp(0.0, 256.0) as u32;
        regions.into_iter().filter(|_| restarts > 0).find_map(|number| {
            let region = self.problems[number as usize].region;
            let points = descend(graph, region, &[], &self.descent(restarts, 2 * DESCENT, seed));
            self.look(&points.into_iter().map(|x| (number, x)).collect())
        })
    }

    /// Descends now and then, from points at which the worst subproblems are least. A witness, if one was found.
    fn descend(&mut self, batch: &[Subproblem]) -> Option<Witness> {
        self.rounds += 1;
        if !self.rounds.is_multiple_of(BETWEEN) {
            return None;
        }
        if self.rounds == LATER {
            let witness = self.descend_far(DESCENDING[1], 2);
            if witness.is_some() {
                return witness;
            }
        }
        let worst = &batch[0];
        let problem = &self.problems[worst.region as usize];
        let own: Vec<&Subproblem> = batch.iter().filter(|s| s.region == worst.region).collect();
        let point = |s: &Subproblem| s.point.as_deref().cloned();
        let points: Vec<Vec<f64>> = if problem.by_input {
            // Where boxes are cut a violation of a subproblem lies in its own.
            let within = |s: &&&Subproblem| -> Vec<Vec<f64>> {
                let mut region = problem.region.clone();
                region.lower.clone_from(&s.input.lower);
                region.upper.clone_from(&s.input.upper);
                let starts: Vec<Vec<f64>> = point(s).into_iter().collect();
                descend(problem.verifier.graph, &region, &starts, &self.descent(3, DESCENT, self.rounds))
            };
            own.iter().take(NEAREST).collect::<Vec<_>>().par_iter().flat_map_iter(within).collect()
        } else {
            let starts: Vec<Vec<f64>> = own.iter().take(8).filter_map(|s| point(s)).collect();
            descend(problem.verifier.graph, problem.region, &starts, &self.descent(8, DESCENT, self.rounds))
        };
        self.look(&points.into_iter().map(|x| (worst.region, x)).collect())
    }

    fn descent(&self, restarts: u32, steps: u32, seed: u64) -> Descent {
        Descent { restarts, steps, seed, until: self.until }
    }

    /// A witness among some points.
    fn look(&mut self, points: &Points) -> Option<Witness> {
        match judge(self.problems, self.confirm, points)? {
            Shown::Violation(found) => Some(found),
            Shown::Disagreement(found) => {
                self.disagreement.get_or_insert(found);
                None
            }
        }
    }

    fn is_over(&self) -> bool {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            self.over.store(true, Ordering::Relaxed);
        }
        self.over.load(Ordering::Relaxed)
    }

    /// Says how far the search has come, and asks whether it goes on.
    fn settle(&mut self, tick: &mut dyn FnMut(&Progress) -> bool) {
        let best_first = self.open.first_key_value().map(|(_, s)| s.bound);
        let lower = self.newest.iter().map(|s| s.bound).chain(best_first).fold(self.least_stuck, f64::min);
        self.progress.lower = lower;
        self.progress.open = self.open.len() + self.newest.len();
        self.stopped |= !tick(&self.progress);
        self.is_over();
    }
}

/// Integers in the order of numbers, the same for both zeros; NaN counts as the least.
fn ordered(x: f64) -> i64 {
    if x.is_nan() {
        return i64::MIN;
    }
    let bits = (x + 0.0).to_bits() as i64;
    if bits < 0 { i64::MIN + 1 + (!bits & i64::MAX) } else { bits }
}
