//! A property and its networks as one query.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};

use num_rational::BigRational;
use num_traits::{One, Signed};

use super::error::QueryError;
use super::formula::{Formula, Relation};
use super::join::Joined;
use super::normal::{Conjunction, Form, Normal};
use super::number::{down, near, power_of_two, representable, up, written};
use super::property::{Kind, Property, Relative, Variable, Version};
use super::region::{Atom, Disjunct, Region};
use crate::bounds::Evaluation;
use crate::graph::Graph;
use crate::onnx::{Port, Ports};

/// Most ends of all boxes together.
const MOST_ENDS: usize = 1 << 26;

/// Where the value of a declared entry stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    Input(usize),
    Output(usize),
}

/// A question to one graph: is there an input with the property?
///
/// The graph's input are the free entries of all inputs (those that equalities
/// tie are one entry); its output are all outputs and hidden values, then
/// whatever else atoms read.
#[derive(Clone, Debug)]
pub struct Query {
    /// All networks side by side.
    pub graph: Graph,
    /// The boxes to search. None if the property contradicts itself, which
    /// makes it `unsat`.
    pub regions: Vec<Region>,
    /// The arithmetic of the networks that the property asks about.
    pub evaluation: Evaluation,
    property: Property,
    places: Vec<Place>,
}

impl Query {
    /// The question of `property` to its networks, one of each in the order
    /// of declaration, each loaded with the hidden values that are declared in
    /// it. Variables of type `real` ask about real arithmetic, as do those of
    /// other types with `as_real`; `float32` asks about evaluations in f32,
    /// with the ends of boxes rounded to f32 where that lies farther out.
    ///
    /// # Errors
    /// [`QueryError`] if networks do not fit, sides are missing, or the
    /// formula has too many alternatives.
    pub fn new(property: Property, networks: &[Ports], as_real: bool) -> Result<Self, QueryError> {
        let refuse = |found: String, accepted: String| QueryError::Unanswerable {
            file: property.file.clone(),
            found,
            accepted,
        };
        if networks.len() != property.networks.len() {
            let names: Vec<&str> = property.networks.iter().map(|n| n.name.as_str()).collect();
            let accepted = format!("one for each of {}", names.join(", "));
            return Err(refuse(format!("{} networks", networks.len()), accepted));
        }
        let single = |element: &str| element.eq_ignore_ascii_case("float32");
        let all_single = property.variables.iter().all(|v| single(&v.element));
        let evaluation = if all_single && !as_real { Evaluation::Float32 } else { Evaluation::Real };
        for variable in &property.variables {
            let real = variable.element.eq_ignore_ascii_case("real");
            let float = ["float16", "float32", "float64", "bfloat16"]
                .iter()
                .any(|f| variable.element.eq_ignore_ascii_case(f));
            if !(real || float && as_real || all_single) {
                let accepted = "real or float32, the same for all";
                let accepted = if float {
                    format!("{accepted}, or --real to answer for real arithmetic")
                } else {
                    accepted.into()
                };
                let found = format!("`{}` has element type {}", variable.name, variable.element);
                return Err(refuse(found, accepted));
            }
        }
        let layout = Layout::new(&property, networks).map_err(|(f, a)| refuse(f, a))?;
        relatives(&property, networks).map_err(|(f, a)| refuse(f, a))?;
        let ties = layout.ties(&property);
        let representative = |entry: usize| match layout.slots[entry] {
            (Kind::Input, flat) => layout.entry_of_input[ties.representative[flat]],
            _ => entry,
        };
        let normal = Normal::new(&property.formula, &representative).map_err(|_| {
            let found = "the formula has more than 131072 alternatives".to_owned();
            refuse(found, "fewer, such as a file for each of some of them".into())
        })?;
        let (joined, places) = layout.join(&property, networks, &ties);
        let mut builder = Builder::new(&normal, joined, &places, ties.free.len());
        builder.extend(&normal);
        let regions =
            builder.regions(&normal, |free| property.entry_name(layout.entry_of_input[ties.free[free]]));
        let mut regions = regions.map_err(|(f, a)| refuse(f, a))?;
        if evaluation == Evaluation::Float32 {
            for region in &mut regions {
                let single = |x: f64| f64::from(x as f32);
                region.lower.iter_mut().for_each(|x| *x = x.min(single(*x)));
                region.upper.iter_mut().for_each(|x| *x = x.max(single(*x)));
            }
        }
        Ok(Self { graph: builder.joined.finish(), regions, evaluation, property, places })
    }

    /// As [`Query::new`], with the networks read from files in the order of declaration.
    ///
    /// # Errors
    /// [`QueryError`] also if a network cannot be loaded.
    pub fn load(property: Property, files: &[&std::path::Path], as_real: bool) -> Result<Self, QueryError> {
        let ports = files.iter().enumerate().map(|(network, file)| {
            let hidden = property.variables.iter().filter(|v| v.network == network && v.kind == Kind::Hidden);
            let names: Vec<&str> = hidden.filter_map(|v| v.onnx_name.as_deref()).collect();
            crate::onnx::load_ports(file, &crate::onnx::LoadOptions::default(), &names)
        });
        let ports = ports.collect::<Result<Vec<Ports>, _>>()?;
        Self::new(property, &ports, as_real)
    }

    /// The property that is asked.
    #[must_use]
    pub fn property(&self) -> &Property {
        &self.property
    }

    /// Whether input `x` and output `y` of the graph satisfy the formula, with
    /// its decimals as they stand in the file, in exact arithmetic. A
    /// comparison that reads NaN or an infinity does not hold. Products are
    /// formed of inputs and outputs, not taken from `y`.
    ///
    /// # Panics
    /// If `x` or `y` is too short.
    #[must_use]
    pub fn holds(&self, x: &[f32], y: &[f32]) -> bool {
        self.property.formula.holds(&|entry| self.value(entry, x, y))
    }

    fn value(&self, entry: usize, x: &[f32], y: &[f32]) -> f32 {
        match self.places[entry] {
            Place::Input(i) => x[i],
            Place::Output(i) => y[i],
        }
    }

    /// The values of all declared variables in the format of the language.
    ///
    /// # Panics
    /// If `x` or `y` is too short.
    #[must_use]
    pub fn assignment(&self, x: &[f32], y: &[f32]) -> String {
        let mut out = String::new();
        let two = self.property.version == Version::Two;
        if !two {
            out.push('(');
        }
        let mut order: Vec<&Variable> = self.property.variables.iter().collect();
        if !two {
            order.sort_by_key(|v| (v.kind == Kind::Output, v.name[2..].parse::<usize>().unwrap_or(0)));
        }
        for (count, variable) in order.iter().enumerate() {
            if two {
                let shape: Vec<String> = variable.shape.iter().map(ToString::to_string).collect();
                let _ = writeln!(out, "{} {} [{}]", variable.name, variable.element, shape.join(","));
            }
            for entry in variable.first..variable.first + variable.entries() {
                let value = written(self.value(entry, x, y));
                let _ = if two {
                    writeln!(out, "{value}")
                } else {
                    write!(out, "{}({} {value})", if count > 0 { "\n " } else { "" }, variable.name)
                };
            }
        }
        out.push_str(if two { "" } else { ")\n" });
        out
    }
}

/// Where declared entries stand among the inputs and outputs of all networks.
struct Layout {
    /// Of each entry: what it is, and its number among all inputs, or among
    /// the outputs and hidden values of its network.
    slots: Vec<(Kind, usize)>,
    network: Vec<usize>,
    /// The declared entry of each input entry.
    entry_of_input: Vec<usize>,
    /// First input entry of each network, and the end.
    first_input: Vec<usize>,
}

struct Ties {
    /// Of each input entry.
    representative: Vec<usize>,
    /// The input entries that are their own representatives.
    free: Vec<usize>,
}

fn len(port: &Port) -> usize {
    port.shape.iter().product()
}

impl Layout {
    fn new(property: &Property, networks: &[Ports]) -> Result<Self, (String, String)> {
        let entries = property.variables.iter().map(Variable::entries).sum();
        let (mut slots, mut owner) = (vec![(Kind::Input, 0); entries], vec![0; entries]);
        let (mut entry_of_input, mut first_input) = (Vec::new(), Vec::new());
        for (n, ports) in networks.iter().enumerate() {
            let begin = entry_of_input.len();
            first_input.push(begin);
            let name = &property.networks[n].name;
            entry_of_input.resize(begin + ports.inputs.iter().map(len).sum::<usize>(), 0);
            let own = || property.variables.iter().filter(|v| v.network == n);
            let mut place = |variable: &Variable, first: usize| {
                for i in 0..variable.entries() {
                    let at = if variable.kind == Kind::Input { begin } else { 0 } + first + i;
                    slots[variable.first + i] = (variable.kind, at);
                    owner[variable.first + i] = n;
                    if variable.kind == Kind::Input {
                        entry_of_input[at] = variable.first + i;
                    }
                }
            };
            if property.version == Version::One {
                for (kind, ports) in [(Kind::Input, &ports.inputs), (Kind::Output, &ports.outputs)] {
                    let letter = if kind == Kind::Input { "X" } else { "Y" };
                    let count = own().filter(|v| v.kind == kind).count();
                    let total: usize = ports.iter().map(len).sum();
                    if count != total {
                        let found = format!("the file declares {letter}_0 to {letter}_{}", count - 1);
                        return Err((
                            found,
                            format!("{letter}_0 to {letter}_{}, as the network has", total - 1),
                        ));
                    }
                }
                for variable in own() {
                    place(variable, variable.name[2..].parse().unwrap_or(0));
                }
                continue;
            }
            let mut after = 0;
            for (kind, what, ports) in [
                (Kind::Input, "inputs", &ports.inputs),
                (Kind::Output, "outputs", &ports.outputs),
                (Kind::Hidden, "hidden values", &ports.hidden),
            ] {
                let declared: Vec<&Variable> = own().filter(|v| v.kind == kind).collect();
                if declared.len() != ports.len() {
                    let found = format!("network `{name}` declares {} {what}", declared.len());
                    return Err((found, format!("{}, as the model has", ports.len())));
                }
                for (variable, port) in declared.into_iter().zip(ports) {
                    // Axes of length 1 move nothing.
                    let long =
                        |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
                    if long(&variable.shape) != long(&port.shape) {
                        let found = format!("`{}` has shape {:?}", variable.name, variable.shape);
                        return Err((
                            found,
                            format!("{:?}, the shape of `{}` in the model", port.shape, port.name),
                        ));
                    }
                    place(variable, after);
                    after += variable.entries();
                }
                if kind == Kind::Input {
                    after = 0;
                }
            }
        }
        first_input.push(entry_of_input.len());
        Ok(Self { slots, network: owner, entry_of_input, first_input })
    }

    /// Equalities between two input entries that the whole formula asserts.
    fn ties(&self, property: &Property) -> Ties {
        fn root(parent: &mut [usize], mut i: usize) -> usize {
            while parent[i] != i {
                parent[i] = parent[parent[i]];
                i = parent[i];
            }
            i
        }
        let mut parent: Vec<usize> = (0..self.entry_of_input.len()).collect();
        let parts = match &property.formula {
            Formula::All(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        };
        for part in parts {
            let Formula::Atom(atom) = part else { continue };
            let terms: Vec<_> = atom.polynomial.0.iter().collect();
            if atom.relation == Relation::Equal
                && let [(a, x), (b, y)] = terms[..]
                && let ([a], [b]) = (&a[..], &b[..])
                && *x == -y
                && let ((Kind::Input, a), (Kind::Input, b)) = (self.slots[*a], self.slots[*b])
            {
                let (a, b) = (root(&mut parent, a), root(&mut parent, b));
                parent[a.max(b)] = a.min(b);
            }
        }
        let representative: Vec<usize> = (0..parent.len()).map(|i| root(&mut parent, i)).collect();
        let free = (0..parent.len()).filter(|&i| representative[i] == i).collect();
        Ties { representative, free }
    }

    /// All networks side by side, and where each declared entry stands.
    fn join(&self, property: &Property, networks: &[Ports], ties: &Ties) -> (Joined, Vec<Place>) {
        let number: HashMap<usize, usize> = ties.free.iter().enumerate().map(|(k, &i)| (i, k)).collect();
        let source = |i: usize| number[&ties.representative[i]];
        let mut first_output = Vec::new();
        let joined = if let ([only], true) = (networks, ties.free.len() == ties.representative.len()) {
            first_output.push(0);
            Joined::one(only.graph.clone())
        } else {
            let mut joined = Joined::new(ties.free.len());
            let mut sources: Vec<Vec<usize>> = Vec::new();
            for (n, ports) in networks.iter().enumerate() {
                let own: Vec<usize> = (self.first_input[n]..self.first_input[n + 1]).map(source).collect();
                // An equal network on the same inputs is the same value.
                let same = match property.networks[n].relative {
                    Some(Relative::Equal(m)) if sources[m] == own => Some(first_output[m]),
                    _ => None,
                };
                first_output.push(same.unwrap_or(joined.len()));
                if same.is_none() {
                    joined.network(&property.networks[n].name, &ports.graph, &own);
                }
                sources.push(own);
            }
            joined
        };
        let place = |(entry, &(kind, at)): (usize, &(Kind, usize))| match kind {
            Kind::Input => Place::Input(source(at)),
            _ => Place::Output(first_output[self.network[entry]] + at),
        };
        (joined, self.slots.iter().enumerate().map(place).collect())
    }
}

/// Feeds text to a hasher.
struct Digest(DefaultHasher);

impl std::fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// Operators with their constants, as one number.
fn digest(ports: &Ports) -> u64 {
    let mut digest = Digest(DefaultHasher::new());
    for node in &ports.graph.nodes {
        let _ = write!(digest, "{:?}", node.op);
    }
    digest.0.finish()
}

/// `equal-to` and `isomorphic-to` hold for the networks that were given.
fn relatives(property: &Property, networks: &[Ports]) -> Result<(), (String, String)> {
    for (declared, ports) in property.networks.iter().zip(networks) {
        let Some(relative) = declared.relative else { continue };
        let (Relative::Equal(m) | Relative::Isomorphic(m)) = relative;
        let (other, name) = (&networks[m], &property.networks[m].name);
        // Hidden values add to what is kept of a model, so that only equal ones can be compared.
        let values = |p: &Ports| p.hidden.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
        if values(ports) != values(other) {
            let found = format!("networks `{}` and `{name}` declare different hidden values", declared.name);
            return Err((found, "the same hidden values, in one order, in both".into()));
        }
        let skeleton = |p: &Ports| {
            let nodes = p.graph.nodes.iter();
            nodes.map(|n| (n.origin.clone(), n.inputs.clone(), n.shape.clone())).collect::<Vec<_>>()
        };
        if skeleton(ports) != skeleton(other) {
            let found = format!("networks `{}` and `{name}` differ in structure", declared.name);
            return Err((found, "networks of the same operators and shapes".into()));
        }
        if matches!(relative, Relative::Equal(_)) && digest(ports) != digest(other) {
            let found =
                format!("network `{}` is declared equal to `{name}`, and its file differs", declared.name);
            return Err((found, "the same network under both names".into()));
        }
    }
    Ok(())
}

/// Factors of outputs and of inputs, and what the form was multiplied by.
type Scaled = (Vec<(usize, f64)>, Vec<(usize, f64)>, BigRational);

/// Ends of a box: input entry, whether it is the upper one, and where.
type Ends = Vec<((usize, bool), BigRational)>;

/// Atoms of forms, and the regions.
struct Builder {
    joined: Joined,
    /// Of each declared entry.
    places: Vec<Place>,
    inputs: usize,
    atoms: Vec<Option<Scaled>>,
    /// The free input entry that a form is, if it is one.
    entry: Vec<Option<usize>>,
}

impl Builder {
    fn new(normal: &Normal, joined: Joined, places: &[Place], inputs: usize) -> Self {
        let entry = |form: &Form| match &form[..] {
            [(monomial, c)] if c.is_one() => match (&monomial[..], monomial.first().map(|&v| places[v])) {
                ([_], Some(Place::Input(i))) => Some(i),
                _ => None,
            },
            _ => None,
        };
        let entry = normal.forms.iter().map(entry).collect();
        Self { joined, places: places.to_vec(), inputs, atoms: Vec::new(), entry }
    }

    /// Appends to the output what forms read, and writes these as atoms.
    fn extend(&mut self, normal: &Normal) {
        let is_input = |places: &[Place], v: usize| matches!(places[v], Place::Input(_));
        let only_inputs =
            |places: &[Place], form: &Form| form.iter().all(|(m, _)| m.len() == 1 && is_input(places, m[0]));
        let (mut read, mut monomials) = (BTreeSet::new(), BTreeSet::new());
        for form in normal.forms.iter().filter(|f| !only_inputs(&self.places, f)) {
            for (monomial, _) in form {
                read.extend(monomial.iter().copied().filter(|&v| is_input(&self.places, v)));
                if monomial.len() > 1 {
                    monomials.insert(monomial.clone());
                }
            }
        }
        let mut at: HashMap<usize, usize> = HashMap::new();
        if !read.is_empty() {
            let first = self.joined.len();
            at.extend(read.iter().enumerate().map(|(k, &v)| (v, first + k)));
            let input = |&v: &usize| match self.places[v] {
                Place::Input(i) | Place::Output(i) => i,
            };
            self.joined.inputs(read.iter().map(input).collect());
        }
        let place = |v: usize| match self.places[v] {
            Place::Input(_) => at[&v],
            Place::Output(i) => i,
        };
        let first = self.joined.len();
        let product: BTreeMap<Vec<usize>, usize> =
            monomials.iter().enumerate().map(|(k, m)| (m.clone(), first + k)).collect();
        if !monomials.is_empty() {
            let factors = monomials.iter().map(|m| {
                let mut factors: Vec<usize> = m.iter().map(|&v| place(v)).collect();
                factors.sort_unstable();
                factors
            });
            self.joined.products(&factors.collect::<Vec<_>>());
        }
        let mut rows = Vec::new();
        let first = self.joined.len();
        for form in &normal.forms {
            let bits = form.iter().map(|(_, c)| c.abs().bits()).max().unwrap_or(1) as i64;
            let scale = power_of_two(1 - bits);
            let exact: Option<Vec<f64>> = form
                .iter()
                .map(|(_, c)| representable(&(BigRational::from_integer(c.clone()) * &scale)))
                .collect();
            let rounded =
                || form.iter().map(|(_, c)| near(&(BigRational::from_integer(c.clone()) * &scale))).collect();
            let inputs = only_inputs(&self.places, form);
            // Rounded factors of inputs alone become a row of the output, too: their error is then bounded there.
            let outputs = |factors: Vec<f64>| -> Vec<(usize, f64)> {
                let entry = |m: &Vec<usize>| if m.len() > 1 { product[m] } else { place(m[0]) };
                form.iter().map(|(m, _)| entry(m)).zip(factors).collect()
            };
            let atom = match (exact, inputs) {
                (Some(factors), true) => {
                    let entry = |m: &[usize]| match self.places[m[0]] {
                        Place::Input(i) | Place::Output(i) => i,
                    };
                    let input = form.iter().map(|(m, _)| entry(m)).zip(factors).collect();
                    Some((Vec::new(), input, scale))
                }
                (Some(factors), false) => Some((outputs(factors), Vec::new(), scale)),
                (None, false) => {
                    rows.push(outputs(rounded()));
                    Some((vec![(first + rows.len() - 1, 1.0)], Vec::new(), scale))
                }
                (None, true) => None,
            };
            self.atoms.push(atom);
        }
        if !rows.is_empty() {
            self.joined.sums(&rows);
        }
    }

    fn atom(&self, form: usize, upper: bool, bound: &BigRational, strict: bool) -> Option<Atom> {
        let (coefficients, input, scale) = self.atoms[form].as_ref()?;
        let bound = bound * scale;
        let signed =
            |terms: &[(usize, f64)]| terms.iter().map(|&(i, c)| (i, if upper { c } else { -c })).collect();
        let bound = up(&if upper { bound } else { -bound });
        Some(Atom { coefficients: signed(coefficients), input: signed(input), bound, strict })
    }

    fn regions(
        &self,
        normal: &Normal,
        name: impl Fn(usize) -> String,
    ) -> Result<Vec<Region>, (String, String)> {
        let mut groups: BTreeMap<Ends, Vec<Disjunct>> = BTreeMap::new();
        for own in &normal.alternatives {
            let mut disjunct = Disjunct::default();
            let mut ends = Vec::new();
            // A bound of its own stands before one that all share.
            let shared = normal.common.iter().filter(|(side, _)| !own.contains_key(side));
            for ((form, upper), (bound, strict)) in own.iter().chain(shared) {
                if let Some(entry) = self.entry[*form] {
                    ends.push(((entry, *upper), bound.clone()));
                } else {
                    // What cannot be an atom is left out, which enlarges the set.
                    disjunct.atoms.extend(self.atom(*form, *upper, bound, *strict));
                }
            }
            ends.sort();
            let disjuncts = groups.entry(ends).or_default();
            if disjuncts.last() != Some(&disjunct) {
                disjuncts.push(disjunct);
            }
            if groups.len().saturating_mul(self.inputs) > MOST_ENDS {
                return Err((
                    format!("{} boxes of {} entries", groups.len(), self.inputs),
                    "fewer boxes".into(),
                ));
            }
        }
        let mut regions = Vec::new();
        for (ends, disjuncts) in groups {
            let mut sides: BTreeMap<(usize, bool), BigRational> = ends.into_iter().collect();
            self.implied(normal, &normal.common, &mut sides);
            let mut region = Region { lower: Vec::new(), upper: Vec::new(), disjuncts };
            let mut empty = false;
            for entry in 0..self.inputs {
                let side = |upper: bool| {
                    let rounded = sides.get(&(entry, upper)).map(if upper { up } else { down });
                    rounded.filter(|end| end.is_finite()).ok_or_else(|| {
                        let side = if upper { "upper" } else { "lower" };
                        let found = format!("`{}` has no {side} bound", name(entry));
                        (found, "a finite lower and upper bound of every input".to_owned())
                    })
                };
                let (lower, upper) = (side(false)?, side(true)?);
                empty |= sides[&(entry, false)] > sides[&(entry, true)];
                region.lower.push(lower);
                region.upper.push(upper);
            }
            if !empty {
                regions.push(region);
            }
        }
        Ok(regions)
    }

    /// Sides that are missing and follow from a linear constraint of inputs.
    fn implied(
        &self,
        normal: &Normal,
        common: &Conjunction,
        sides: &mut BTreeMap<(usize, bool), BigRational>,
    ) {
        for _ in 0..self.inputs.min(32) {
            let mut found = Vec::new();
            for ((form, upper), (bound, _)) in common {
                let terms: Option<Vec<(usize, BigRational)>> = normal.forms[*form]
                    .iter()
                    .map(|(m, c)| match (&m[..], m.first().map(|&v| self.places[v])) {
                        ([_], Some(Place::Input(i))) => Some((i, BigRational::from_integer(c.clone()))),
                        _ => None,
                    })
                    .collect();
                let Some(terms) = terms.filter(|t| t.len() > 1 && t.len() <= 64) else { continue };
                // sum c x <= bound, after a change of sign where it is a lower bound.
                let sign = if *upper { BigRational::one() } else { -BigRational::one() };
                for (i, c) in &terms {
                    let c = c * &sign;
                    let side = (*i, c.is_positive());
                    if sides.contains_key(&side) {
                        continue;
                    }
                    let rest =
                        terms.iter().filter(|(j, _)| j != i).try_fold(bound * &sign, |rest, (j, d)| {
                            let d = d * &sign;
                            Some(rest - sides.get(&(*j, d.is_negative()))? * d)
                        });
                    found.extend(rest.map(|rest| (side, rest / c)));
                }
            }
            if found.is_empty() {
                break;
            }
            sides.extend(found);
        }
    }
}
