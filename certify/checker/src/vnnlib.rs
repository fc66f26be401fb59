//! Properties in VNN-LIB 1: linear comparisons of inputs `X_i` and outputs `Y_i`, joined by `and` and `or`.

use std::collections::BTreeMap;

use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use crate::claim::{Atom, Region, decimal, exact};
use crate::{Result, cannot};

/// Deeper nesting, and more conjunctions, are not read.
const DEEPEST: usize = 500;
const MOST: usize = 1 << 14;

/// Whether it is an output, and its number.
type Name = (bool, usize);

/// `sum of terms <= bound`.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    terms: BTreeMap<Name, BigRational>,
    bound: BigRational,
    strict: bool,
}

enum Formula {
    All(Vec<Formula>),
    Any(Vec<Formula>),
    Atom(Comparison),
}

/// A list in parentheses, or a word.
enum Item<'a> {
    List(Vec<Item<'a>>),
    Word(&'a str),
}

/// All conjunctions of which one must hold.
pub(crate) fn read(text: &str) -> Result<Vec<Vec<Comparison>>> {
    let mut all = Vec::new();
    for item in items(text)? {
        let Item::List(list) = &item else { return cannot("a property with words outside of parentheses") };
        match &list[..] {
            [Item::Word("declare-const"), Item::Word(name), Item::Word("Real")]
                if variable(name).is_some() => {}
            [Item::Word("assert"), formula] => all.push(self::formula(formula)?),
            _ => {
                return cannot(
                    "a property with other commands than declare-const of X_i and Y_i, and assert",
                );
            }
        }
    }
    let mut found = Vec::new();
    let mut open: Vec<(Vec<&Formula>, Vec<Comparison>)> = vec![(all.iter().rev().collect(), Vec::new())];
    while let Some((mut rest, mut own)) = open.pop() {
        // Atoms first, so that they are there before alternatives multiply them.
        let mut choices = Vec::new();
        while let Some(next) = rest.pop() {
            match next {
                Formula::All(parts) => rest.extend(parts.iter().rev()),
                Formula::Atom(atom) => own.push(atom.clone()),
                Formula::Any(_) => choices.push(next),
            }
        }
        choices.reverse();
        match choices.pop() {
            Some(Formula::Any(parts)) => {
                for part in parts.iter().rev() {
                    let mut rest = choices.clone();
                    rest.push(part);
                    open.push((rest, own.clone()));
                }
            }
            _ => found.push(own),
        }
        if open.len() + found.len() > MOST {
            return cannot("a property with too many alternatives");
        }
    }
    Ok(found)
}

fn items(text: &str) -> Result<Vec<Item<'_>>> {
    let mut open = vec![Vec::new()];
    for line in text.lines() {
        let mut rest = line.split(';').next().unwrap_or_default().trim_start();
        while !rest.is_empty() {
            let end = if rest.starts_with(['(', ')']) {
                1
            } else {
                rest.find(|c: char| c.is_whitespace() || c == '(' || c == ')').unwrap_or(rest.len())
            };
            let (word, after) = rest.split_at(end);
            rest = after.trim_start();
            match (word, open.len()) {
                ("(", depth) if depth < DEEPEST => open.push(Vec::new()),
                (")", depth) if depth > 1 => {
                    let list = Item::List(open.pop().unwrap_or_default());
                    open.last_mut().into_iter().for_each(|outer| outer.push(Item::List(Vec::new())));
                    if let Some(last) = open.last_mut().and_then(|outer| outer.last_mut()) {
                        *last = list;
                    }
                }
                ("(" | ")", _) => return cannot("a property with other parentheses, or nested too deep"),
                (word, _) => open.last_mut().into_iter().for_each(|list| list.push(Item::Word(word))),
            }
        }
    }
    match open.pop() {
        Some(items) if open.is_empty() => Ok(items),
        _ => cannot("a property with parentheses that are not closed"),
    }
}

fn variable(word: &str) -> Option<Name> {
    let (letter, number) = word.split_once('_')?;
    let number = number.parse().ok().filter(|n: &usize| *n < 1 << 25 && n.to_string() == number)?;
    match letter {
        "X" => Some((false, number)),
        "Y" => Some((true, number)),
        _ => None,
    }
}

fn formula(item: &Item) -> Result<Formula> {
    let Item::List(list) = item else { return cannot("a formula that is a word") };
    let parts = || list[1..].iter().map(formula).collect::<Result<Vec<_>>>();
    match &list[..] {
        [Item::Word("and"), _, ..] => Ok(Formula::All(parts()?)),
        [Item::Word("or"), _, ..] => Ok(Formula::Any(parts()?)),
        [Item::Word(relation), left, right] => {
            let difference = |left: &Item, right: &Item, strict| -> Result<Comparison> {
                let mut terms: BTreeMap<Name, BigRational> = BTreeMap::new();
                let mut bound = BigRational::zero();
                linear(left, &BigRational::one(), &mut terms, &mut bound)?;
                linear(right, &-BigRational::one(), &mut terms, &mut bound)?;
                terms.retain(|_, c| !c.is_zero());
                Ok(Comparison { terms, bound, strict })
            };
            let atom = |left, right, strict| difference(left, right, strict).map(Formula::Atom);
            match *relation {
                "<=" => atom(left, right, false),
                "<" => atom(left, right, true),
                ">=" => atom(right, left, false),
                ">" => atom(right, left, true),
                "=" => Ok(Formula::All(vec![atom(left, right, false)?, atom(right, left, false)?])),
                other => cannot(format!("`{other}` in a property")),
            }
        }
        _ => cannot("a formula that is no comparison, `and` or `or`"),
    }
}

/// Adds `factor` times an expression to `sum of terms - bound`.
fn linear(
    item: &Item,
    factor: &BigRational,
    terms: &mut BTreeMap<Name, BigRational>,
    bound: &mut BigRational,
) -> Result<()> {
    match item {
        Item::Word(word) => match (variable(word), decimal(word)) {
            (Some(name), _) => *terms.entry(name).or_insert_with(BigRational::zero) += factor,
            (None, Some(number)) => *bound -= factor * number,
            _ => return cannot(format!("`{word}` in a property")),
        },
        Item::List(list) => match &list[..] {
            [Item::Word("+"), parts @ ..] => {
                for part in parts {
                    linear(part, factor, terms, bound)?;
                }
            }
            [Item::Word("-"), part] => linear(part, &-factor, terms, bound)?,
            [Item::Word("-"), first, parts @ ..] => {
                linear(first, factor, terms, bound)?;
                for part in parts {
                    linear(part, &-factor, terms, bound)?;
                }
            }
            [Item::Word("*"), Item::Word(number), part] if decimal(number).is_some() => {
                linear(part, &(factor * decimal(number).unwrap_or_default()), terms, bound)?;
            }
            _ => return cannot("an expression that is not linear in a property"),
        },
    }
    Ok(())
}

/// Whether every input that satisfies a conjunction lies in the region and satisfies one of its disjuncts.
pub(crate) fn is_covered(conjunction: &[Comparison], region: &Region) -> bool {
    let implied = |atom: &Atom| conjunction.iter().any(|known| known.implies(atom));
    let inputs = &region.inputs;
    let sides = inputs.lower.iter().zip(&inputs.upper).enumerate();
    let boxed = sides.into_iter().all(|(i, (&low, &high))| {
        let side = |c: f64, bound: f64| implied(&Atom { y: Vec::new(), x: vec![(i, c)], bound });
        side(-1.0, -low) && side(1.0, high)
    });
    boxed && region.disjuncts.iter().any(|atoms| atoms.iter().all(implied))
}

impl Comparison {
    /// Whether the atom follows, as a positive multiple of this with a bound that is not less.
    fn implies(&self, atom: &Atom) -> bool {
        if self.terms.len() != atom.x.len() + atom.y.len() {
            return false;
        }
        let terms = (atom.x.iter().map(|t| (false, t))).chain(atom.y.iter().map(|t| (true, t)));
        let mut scale: Option<BigRational> = None;
        for (output, &(i, c)) in terms {
            let (Some(own), Some(c)) = (self.terms.get(&(output, i)), exact(c)) else { return false };
            let ratio = c / own;
            if scale.as_ref().is_some_and(|scale| *scale != ratio) || !ratio.is_positive() {
                return false;
            }
            scale = Some(ratio);
        }
        let bound = exact(atom.bound);
        scale.zip(bound).is_some_and(|(scale, bound)| bound >= &self.bound * scale)
    }

    /// Whether it holds for an input and outputs that lie in intervals: certainly, certainly not, or neither.
    pub(crate) fn holds(&self, x: &[f32], y: &[(f64, f64)]) -> Option<bool> {
        let (mut least, mut most) = (BigRational::zero(), BigRational::zero());
        for (&(output, i), c) in &self.terms {
            let (low, high) =
                if output { *y.get(i)? } else { (f64::from(*x.get(i)?), f64::from(*x.get(i)?)) };
            let (low, high) = (c * exact(low)?, c * exact(high)?);
            let (low, high) = if c.is_positive() { (low, high) } else { (high, low) };
            (least, most) = (least + low, most + high);
        }
        let below =
            |value: &BigRational| if self.strict { *value < self.bound } else { *value <= self.bound };
        if below(&most) {
            Some(true)
        } else if below(&least) {
            None
        } else {
            Some(false)
        }
    }
}
