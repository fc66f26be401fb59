//! The normal form: a formula as boxes, each with its disjuncts.
//!
//! A comparison bounds a *form*, a sum of terms with coprime whole
//! coefficients, from one side, so that comparisons of one form meet however
//! they are written. A conjunction that leaves a form no value is dropped.

use std::collections::{BTreeMap, HashMap};

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use super::formula::{Comparison, Formula, Monomial, Relation};

/// Most conjunctions that are looked at, and most comparisons in all of them.
const MOST_CONJUNCTIONS: usize = 1 << 17;
const MOST_LITERALS: usize = 1 << 23;

/// Terms with coprime whole coefficients, the first of which is positive.
pub(super) type Form = Vec<(Monomial, BigInt)>;

/// A form, and whether it is bounded from above.
pub(super) type Side = (usize, bool);

/// The bounds of a conjunction, each with whether it is strict.
pub(super) type Conjunction = BTreeMap<Side, (BigRational, bool)>;

enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Literal(Side, BigRational, bool),
}

/// What is true in the whole formula, and the alternatives.
pub(super) struct Normal {
    pub(super) forms: Vec<Form>,
    pub(super) common: Conjunction,
    /// Empty if nothing satisfies the formula.
    pub(super) alternatives: Vec<Conjunction>,
}

/// There are too many conjunctions.
pub(super) struct Explosion;

impl Normal {
    /// Of a formula whose variables are renamed by `rename`.
    pub(super) fn new(formula: &Formula, rename: &impl Fn(usize) -> usize) -> Result<Self, Explosion> {
        let mut forms = Forms::default();
        let tree = forms.tree(formula, rename);
        let (mut common, mut rest) = (Conjunction::new(), Vec::new());
        let mut pending = vec![&tree];
        let mut possible = true;
        while let Some(tree) = pending.pop() {
            match tree {
                Tree::All(parts) => pending.extend(parts.iter().rev()),
                Tree::Any(_) => rest.push(tree),
                Tree::Literal(side, bound, strict) => {
                    possible &= narrow(&Conjunction::new(), &mut common, *side, bound, *strict);
                }
            }
        }
        let alternatives = if possible { expand(&common, rest)? } else { Vec::new() };
        Ok(Self { forms: forms.list, common, alternatives })
    }
}

#[derive(Default)]
struct Forms {
    list: Vec<Form>,
    places: HashMap<Form, usize>,
}

impl Forms {
    fn tree(&mut self, formula: &Formula, rename: &impl Fn(usize) -> usize) -> Tree {
        match formula {
            Formula::All(parts) => Tree::All(parts.iter().map(|p| self.tree(p, rename)).collect()),
            Formula::Any(parts) => Tree::Any(parts.iter().map(|p| self.tree(p, rename)).collect()),
            Formula::Atom(atom) => self.atom(atom, rename),
        }
    }

    fn atom(&mut self, atom: &Comparison, rename: &impl Fn(usize) -> usize) -> Tree {
        let mut terms: BTreeMap<Monomial, BigRational> = BTreeMap::new();
        for (monomial, c) in &atom.polynomial.0 {
            let mut monomial: Monomial = monomial.iter().map(|&v| rename(v)).collect();
            monomial.sort_unstable();
            *terms.entry(monomial).or_insert_with(BigRational::zero) += c;
        }
        let constant = terms.remove(&Vec::new()).unwrap_or_else(BigRational::zero);
        terms.retain(|_, c| !c.is_zero());
        let Some(first) = terms.values().next() else {
            let holds = match atom.relation {
                Relation::AtMost => !constant.is_positive(),
                Relation::Less => constant.is_negative(),
                Relation::Equal => constant.is_zero(),
                Relation::NotEqual => !constant.is_zero(),
            };
            return if holds { Tree::All(Vec::new()) } else { Tree::Any(Vec::new()) };
        };
        // form = polynomial part * scale
        let denominator = terms.values().fold(BigInt::one(), |l, c| l.lcm(c.denom()));
        let whole = |c: &BigRational| c.numer() * (&denominator / c.denom());
        let divisor = terms.values().fold(BigInt::zero(), |g, c| g.gcd(&whole(c)));
        let divisor = if first.is_negative() { -divisor } else { divisor };
        let scale = BigRational::new(denominator.clone(), divisor.clone());
        let form: Form = terms.iter().map(|(m, c)| (m.clone(), whole(c) / &divisor)).collect();
        let bound = -constant * &scale;
        let place = *self.places.entry(form).or_insert_with_key(|form| {
            self.list.push(form.clone());
            self.list.len() - 1
        });
        let above = scale.is_positive();
        let literal = |upper, strict| Tree::Literal((place, upper), bound.clone(), strict);
        match atom.relation {
            Relation::AtMost => literal(above, false),
            Relation::Less => literal(above, true),
            Relation::Equal => Tree::All(vec![literal(true, false), literal(false, false)]),
            Relation::NotEqual => Tree::Any(vec![literal(true, true), literal(false, true)]),
        }
    }
}

/// Adds a bound to a conjunction; false if it leaves the form no value. What
/// is implied by `common` is left out.
fn narrow(
    common: &Conjunction,
    own: &mut Conjunction,
    side: Side,
    bound: &BigRational,
    strict: bool,
) -> bool {
    let (form, upper) = side;
    let tighter = |(old, old_strict): &(BigRational, bool)| match bound.cmp(old) {
        std::cmp::Ordering::Equal => strict && !old_strict,
        order => order.is_lt() == upper,
    };
    if common.get(&side).is_none_or(tighter) && own.get(&side).is_none_or(tighter) {
        own.insert(side, (bound.clone(), strict));
    } else {
        return true;
    }
    let other = (form, !upper);
    [common.get(&other), own.get(&other)].into_iter().flatten().all(|(end, end_strict)| {
        match if upper { bound.cmp(end) } else { end.cmp(bound) } {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => !(strict || *end_strict),
            std::cmp::Ordering::Greater => true,
        }
    })
}

/// The conjunctions of one choice from each alternative, without those that
/// contradict themselves.
fn expand(common: &Conjunction, rest: Vec<&Tree>) -> Result<Vec<Conjunction>, Explosion> {
    let (mut found, mut literals, mut looked) = (Vec::new(), 0, 0);
    let mut work = vec![(rest, Conjunction::new())];
    while let Some((mut pending, mut own)) = work.pop() {
        looked += 1;
        literals += own.len() + pending.len();
        if looked > MOST_CONJUNCTIONS || literals > MOST_LITERALS {
            return Err(Explosion);
        }
        let (mut choices, mut possible): (Vec<&Tree>, bool) = (Vec::new(), true);
        while let Some(tree) = pending.pop() {
            match tree {
                Tree::All(parts) => pending.extend(parts),
                Tree::Any(_) => choices.push(tree),
                Tree::Literal(side, bound, strict) => {
                    possible = narrow(common, &mut own, *side, bound, *strict);
                    if !possible {
                        break;
                    }
                }
            }
        }
        if !possible {
            continue;
        }
        let size = |tree: &&Tree| if let Tree::Any(parts) = tree { parts.len() } else { 0 };
        let Some(least) = (0..choices.len()).min_by_key(|&i| size(&choices[i])) else {
            found.push(own);
            continue;
        };
        if let Tree::Any(parts) = choices.swap_remove(least) {
            if work.len() + parts.len() > MOST_CONJUNCTIONS {
                return Err(Explosion);
            }
            for part in parts.iter().rev() {
                let mut pending = choices.clone();
                pending.push(part);
                work.push((pending, own.clone()));
            }
        }
    }
    Ok(found)
}
