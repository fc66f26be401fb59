//! A property file: declarations and one formula, in VNN-LIB 1 or 2.
//!
//! Terms are reduced as their parentheses close, so that depth costs no stack.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::error::QueryError;
use super::formula::{Comparison, Formula, Polynomial, Relation};
use super::number::decimal;
use super::syntax::{Token, short, tokens};

/// Most bytes of a property, decompressed.
const MOST_BYTES: u64 = 1 << 30;
/// Most entries of all variables together.
const MOST_ENTRIES: usize = 1 << 25;
/// Most times that `and` and `or` alternate.
const MOST_ALTERNATIONS: usize = 200;

/// The language of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// VNN-LIB 1: one network, `X_i` and `Y_i`.
    One,
    /// VNN-LIB 2.0.
    Two,
}

/// What a variable is in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An input.
    Input,
    /// A value inside.
    Hidden,
    /// An output.
    Output,
}

/// A declared variable.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its element type, as it was written.
    pub element: String,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// The name in the model, of a hidden value.
    pub onnx_name: Option<String>,
    /// Which network it belongs to.
    pub network: usize,
    /// Number of its first entry among those of all variables.
    pub(super) first: usize,
}

impl Variable {
    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How a network relates to one declared before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relative {
    /// The same network.
    Equal(usize),
    /// One with the same operators and shapes, and other weights.
    Isomorphic(usize),
}

/// A declared network.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its name; `N` in VNN-LIB 1, where it has none.
    pub name: String,
    /// The network that it equals or resembles.
    pub relative: Option<Relative>,
}

/// A property as it stands in a file: what it declares, and the formula whose
/// solutions are violations. No network is read for it.
#[derive(Clone, Debug)]
pub struct Property {
    /// Where it was read.
    pub file: PathBuf,
    /// Its language.
    pub version: Version,
    /// The networks, in order.
    pub networks: Vec<Declared>,
    /// The variables, in order.
    pub variables: Vec<Variable>,
    pub(super) formula: Formula,
}

impl Property {
    /// Reads the file at `path`, plain or gzipped.
    ///
    /// # Errors
    /// [`QueryError`] if it cannot be read or is no property.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, QueryError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|cause| QueryError::Unreadable { file: path.to_owned(), cause })?;
        Self::parse(path, &bytes)
    }

    /// Reads the bytes of a file, plain or gzipped; `name` is for messages.
    ///
    /// # Errors
    /// As [`Property::read`].
    pub fn parse(name: &Path, bytes: &[u8]) -> Result<Self, QueryError> {
        let unreadable = |cause| QueryError::Unreadable { file: name.to_owned(), cause };
        let mut unpacked = Vec::new();
        let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
            let most = MultiGzDecoder::new(bytes).take(MOST_BYTES + 1).read_to_end(&mut unpacked);
            most.map_err(unreadable)?;
            &unpacked
        } else {
            bytes
        };
        let refused = |text: &str| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
        if bytes.len() as u64 > MOST_BYTES {
            return Err(refused("it holds more than 1 GiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| refused("it is not text in UTF-8"))?;
        Parser::new(name).run(text)
    }

    /// The name of entry `entry`, as the language writes it.
    #[must_use]
    pub(super) fn entry_name(&self, entry: usize) -> String {
        let variable = &self.variables[self.variables.partition_point(|v| v.first <= entry) - 1];
        if self.version == Version::One || variable.shape.is_empty() {
            return variable.name.clone();
        }
        let mut rest = entry - variable.first;
        let mut indices: Vec<String> = Vec::new();
        for &length in variable.shape.iter().rev() {
            indices.push((rest % length).to_string());
            rest /= length;
        }
        indices.reverse();
        format!("{}[{}]", variable.name, indices.join(","))
    }
}

impl std::fmt::Display for Property {
    /// The property in its language; decimals as quotients of whole numbers.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.version == Version::One {
            for variable in &self.variables {
                writeln!(f, "(declare-const {} Real)", variable.name)?;
            }
        } else {
            writeln!(f, "(vnnlib-version <2.0>)")?;
        }
        for (n, network) in self.networks.iter().enumerate().filter(|_| self.version == Version::Two) {
            writeln!(f, "(declare-network {}", network.name)?;
            match network.relative {
                Some(Relative::Equal(m)) => writeln!(f, "  (equal-to {})", self.networks[m].name)?,
                Some(Relative::Isomorphic(m)) => writeln!(f, "  (isomorphic-to {})", self.networks[m].name)?,
                None => {}
            }
            for variable in self.variables.iter().filter(|v| v.network == n) {
                let kind = match variable.kind {
                    Kind::Input => "input",
                    Kind::Hidden => "hidden",
                    Kind::Output => "output",
                };
                let shape: Vec<String> = variable.shape.iter().map(ToString::to_string).collect();
                write!(f, "  (declare-{kind} {} {} [{}]", variable.name, variable.element, shape.join(","))?;
                match &variable.onnx_name {
                    Some(name) => writeln!(f, " \"{name}\")")?,
                    None => writeln!(f, ")")?,
                }
            }
            writeln!(f, ")")?;
        }
        let mut text = String::new();
        self.formula.print(&|entry| self.entry_name(entry), &mut text);
        writeln!(f, "(assert {text})")
    }
}

/// What a closed parenthesis has become, or a word inside an open one.
enum Item<'a> {
    Word(usize, &'a str),
    Text(&'a str),
    Term(Polynomial),
    Formula(Formula, usize),
    /// A list that is meaningful only where it stands, such as a declaration.
    List(usize, Vec<Item<'a>>),
}

type Failure = (usize, String, String);

struct Parser<'a> {
    file: &'a Path,
    version: Option<Version>,
    networks: Vec<Declared>,
    variables: Vec<Variable>,
    names: HashMap<String, usize>,
    entries: usize,
    asserted: Vec<Formula>,
}

const STATEMENTS: &str =
    "(vnnlib-version <2.0>), (declare-network NAME ...), (declare-const X_0 Real) or (assert FORMULA)";
const FORMULAS: &str = "(and ...), (or ...) or a comparison such as (<= X Y)";
const TERMS: &str = "a number, a declared variable, (+ ...), (- ...) or (* ...)";

fn fail<T>(line: usize, found: impl Into<String>, accepted: impl Into<String>) -> Result<T, Failure> {
    Err((line, found.into(), accepted.into()))
}

impl<'a> Parser<'a> {
    fn new(file: &'a Path) -> Self {
        Self {
            file,
            version: None,
            networks: Vec::new(),
            variables: Vec::new(),
            names: HashMap::new(),
            entries: 0,
            asserted: Vec::new(),
        }
    }

    fn run(mut self, text: &str) -> Result<Property, QueryError> {
        let file = self.file.to_owned();
        self.statements(text).map_err(|(line, found, accepted)| QueryError::Syntax {
            file: file.clone(),
            line,
            found,
            accepted,
        })?;
        if self.version == Some(Version::One) {
            self.order_of_version_one().map_err(|(found, accepted)| QueryError::Unanswerable {
                file: file.clone(),
                found,
                accepted,
            })?;
        }
        let (Some(version), false) = (self.version, self.asserted.is_empty()) else {
            return Err(QueryError::Unanswerable {
                file,
                found: "nothing is asserted, or the file is truncated".into(),
                accepted: "declarations and at least one (assert FORMULA)".into(),
            });
        };
        let formula = Formula::all(self.asserted);
        Ok(Property { file, version, networks: self.networks, variables: self.variables, formula })
    }

    /// `X_i` and `Y_i` may be declared in any order, but none may be missing.
    fn order_of_version_one(&self) -> Result<(), (String, String)> {
        for (letter, kind) in [("X", Kind::Input), ("Y", Kind::Output)] {
            let count = self.variables.iter().filter(|v| v.kind == kind).count();
            if let Some(missing) =
                (0..count.max(1)).map(|i| format!("{letter}_{i}")).find(|n| !self.names.contains_key(n))
            {
                let accepted = format!("(declare-const {missing} Real)");
                return Err((format!("`{missing}` is not declared"), accepted));
            }
        }
        Ok(())
    }

    fn statements(&mut self, text: &str) -> Result<(), Failure> {
        // Open parentheses, each with its line and what was read inside.
        let mut open: Vec<(usize, Vec<Item>)> = Vec::new();
        let mut last = 1;
        for (line, token) in tokens(text) {
            last = line;
            let item = match token {
                Token::Open => {
                    open.push((line, Vec::new()));
                    continue;
                }
                Token::Close => {
                    let Some((begun, items)) = open.pop() else {
                        return fail(line, "a closing parenthesis without an opening one", STATEMENTS);
                    };
                    if open.is_empty() {
                        self.statement(begun, items)?;
                        continue;
                    }
                    self.reduce(begun, items)?
                }
                Token::Word(word) => Item::Word(line, word),
                Token::Text(text) => Item::Text(text),
                Token::Unclosed => {
                    return fail(line, "a quotation mark that is never closed", "a name in \"...\"");
                }
            };
            match (open.last_mut(), item) {
                (Some((_, items)), item) => items.push(item),
                (None, Item::Word(_, word)) => return fail(line, short(word), STATEMENTS),
                (None, _) => return fail(line, "a text in quotation marks", STATEMENTS),
            }
        }
        if let Some((line, _)) = open.last() {
            let found = format!("the file ends at line {last} inside a parenthesis that is opened here");
            return fail(*line, found, "a closing parenthesis");
        }
        Ok(())
    }

    /// What a closed parenthesis inside a statement means.
    fn reduce<'t>(&self, line: usize, mut items: Vec<Item<'t>>) -> Result<Item<'t>, Failure> {
        let Some(Item::Word(_, head)) = items.first() else {
            let found =
                if items.is_empty() { "empty parentheses" } else { "a parenthesis without an operator" };
            return fail(line, found, format!("{FORMULAS}; or as a term {TERMS}"));
        };
        let head = *head;
        match head {
            "declare-input" | "declare-output" | "declare-hidden" | "equal-to" | "isomorphic-to" => {
                Ok(Item::List(line, items))
            }
            "and" | "or" => {
                items.remove(0);
                let (mut parts, mut depth) = (Vec::with_capacity(items.len()), 1);
                for item in items {
                    match item {
                        Item::Formula(part, inner) => {
                            let same =
                                matches!((&part, head), (Formula::All(_), "and") | (Formula::Any(_), "or"));
                            depth = depth.max(inner + usize::from(!same));
                            parts.push(part);
                        }
                        Item::Word(line, word) => {
                            return fail(line, format!("{} inside ({head} ...)", short(word)), FORMULAS);
                        }
                        _ => return fail(line, format!("a term inside ({head} ...)"), FORMULAS),
                    }
                }
                if parts.is_empty() {
                    return fail(line, format!("({head}) of nothing"), "at least one formula");
                }
                let formula = if head == "and" { Formula::all(parts) } else { Formula::any(parts) };
                if depth >= MOST_ALTERNATIONS {
                    let found = "`and` and `or` nested in each other too deeply";
                    return fail(line, found, format!("{MOST_ALTERNATIONS} levels"));
                }
                let depth = if matches!(formula, Formula::Atom(_)) { 0 } else { depth };
                Ok(Item::Formula(formula, depth))
            }
            "<=" | "<" | ">=" | ">" | "==" | "=" | "!=" => {
                items.remove(0);
                let count = items.len();
                let Ok([a, b]) = <[Item; 2]>::try_from(items) else {
                    let found = format!("({head} ...) of {count} operands");
                    return fail(line, found, format!("two operands: ({head} A B)"));
                };
                let (a, b) = (self.term(line, a)?, self.term(line, b)?);
                let (a, b) = if head.starts_with('>') { (b, a) } else { (a, b) };
                let relation = match head {
                    "<=" | ">=" => Relation::AtMost,
                    "<" | ">" => Relation::Less,
                    "!=" => Relation::NotEqual,
                    _ => Relation::Equal,
                };
                let difference = a.plus(b.negated()).map_err(|why| too_large(line, why))?;
                Ok(Item::Formula(Formula::Atom(Comparison::new(difference, relation)), 0))
            }
            "+" | "-" | "*" => {
                items.remove(0);
                let alone = items.len() == 1;
                let mut terms = items.into_iter();
                let Some(first) = terms.next() else {
                    return fail(line, format!("({head}) of nothing"), "at least one operand");
                };
                let mut result = self.term(line, first)?;
                if head == "-" && alone {
                    return Ok(Item::Term(result.negated()));
                }
                for item in terms {
                    let term = self.term(line, item)?;
                    result = match head {
                        "+" => result.plus(term),
                        "-" => result.plus(term.negated()),
                        _ => result.times(&term),
                    }
                    .map_err(|why| too_large(line, why))?;
                }
                Ok(Item::Term(result))
            }
            _ => {
                let infix = items.get(1).and_then(|item| match item {
                    Item::Word(_, word)
                        if matches!(*word, "<=" | "<" | ">=" | ">" | "==" | "=" | "!=" | "+" | "-" | "*") =>
                    {
                        Some(*word)
                    }
                    _ => None,
                });
                if let Some(operator) = infix {
                    let right = match items.get(2) {
                        Some(Item::Word(_, word)) => word,
                        _ => "...",
                    };
                    let found = format!("infix ({head} {operator} {right})");
                    return fail(line, found, format!("the prefix form ({operator} {head} {right})"));
                }
                fail(line, short(head), format!("{FORMULAS}; or as a term {TERMS}"))
            }
        }
    }

    fn term(&self, line: usize, item: Item) -> Result<Polynomial, Failure> {
        match item {
            Item::Term(term) => Ok(term),
            Item::Word(line, word) => self.word(line, word),
            Item::Formula(..) => fail(line, "a formula in place of a term", TERMS),
            Item::Text(text) => fail(line, format!("the text {}", short(text)), TERMS),
            Item::List(line, _) => fail(line, "a declaration in place of a term", TERMS),
        }
    }

    /// A number or a variable.
    fn word(&self, line: usize, word: &str) -> Result<Polynomial, Failure> {
        if word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
            return decimal(word).map(Polynomial::constant).ok_or_else(|| {
                (
                    line,
                    short(word),
                    "a decimal such as -1.5e-3, of at most 1100 digits and exponents within 1100".into(),
                )
            });
        }
        let (name, indices) = match word.split_once('[') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(']').and_then(lengths))),
            None => (word, None),
        };
        let Some(&place) = self.names.get(name) else {
            let declared: Vec<&str> = match &self.variables[..] {
                [first, .., last] => vec![&first.name, "...", &last.name],
                [only] => vec![&only.name],
                [] => vec!["none"],
            };
            return fail(
                line,
                format!("{} is not declared before it is used", short(name)),
                format!("a declared variable: {}", declared.join(" ")),
            );
        };
        let variable = &self.variables[place];
        let indices = match indices {
            None => Some(Vec::new()),
            Some(indices) => indices,
        };
        let fits = indices.filter(|i| {
            i.len() == variable.shape.len() && i.iter().zip(&variable.shape).all(|(i, length)| i < length)
        });
        let Some(indices) = fits else {
            let example = if variable.shape.is_empty() {
                name.to_owned()
            } else {
                let last: Vec<String> = variable.shape.iter().map(|n| (n - 1).to_string()).collect();
                format!("{name}[{}] with each index from 0 to that", last.join(","))
            };
            return fail(line, format!("{} for shape {:?}", short(word), variable.shape), example);
        };
        let offset = indices.iter().zip(&variable.shape).fold(0, |sum, (i, length)| sum * length + i);
        Ok(Polynomial::variable(variable.first + offset))
    }

    fn statement(&mut self, line: usize, items: Vec<Item>) -> Result<(), Failure> {
        let mut items = items.into_iter();
        let Some(Item::Word(_, head)) = items.next() else {
            return fail(line, "a parenthesis without a statement", STATEMENTS);
        };
        let rest: Vec<Item> = items.collect();
        match (head, &rest[..]) {
            ("vnnlib-version", [Item::Word(_, version)]) => {
                let plain = version.strip_prefix('<').and_then(|v| v.strip_suffix('>')).unwrap_or(version);
                if self.version.is_some() || plain != "2.0" {
                    let found = format!("version {} at this place", short(version));
                    return fail(line, found, "(vnnlib-version <2.0>), once and first");
                }
                self.version = Some(Version::Two);
                Ok(())
            }
            ("declare-const", [Item::Word(_, name), Item::Word(_, element)]) => {
                self.constant(line, name, element)
            }
            ("declare-network", _) => self.network(line, rest),
            ("assert", [_]) => {
                match rest.into_iter().next() {
                    Some(Item::Formula(formula, _)) => self.asserted.push(formula),
                    Some(Item::Word(_, word)) => return fail(line, short(word), FORMULAS),
                    _ => return fail(line, "an assertion of a term", FORMULAS),
                }
                Ok(())
            }
            ("declare-const" | "vnnlib-version" | "assert", _) => {
                fail(line, format!("({head} ...) with {} operands", rest.len()), STATEMENTS)
            }
            _ => fail(line, short(head), STATEMENTS),
        }
    }

    /// `(declare-const X_0 Real)`.
    fn constant(&mut self, line: usize, name: &str, element: &str) -> Result<(), Failure> {
        const ACCEPTED: &str =
            "(declare-const X_0 Real) for inputs, Y_0 for outputs, in files without a vnnlib-version";
        if self.version == Some(Version::Two) {
            return fail(
                line,
                "declare-const in a file of version 2",
                "(declare-network NAME (declare-input ...) ...)",
            );
        }
        let kind = match name.split_once('_') {
            Some(("X", _)) => Kind::Input,
            Some(("Y", _)) => Kind::Output,
            _ => return fail(line, short(name), ACCEPTED),
        };
        // `X_07` or `X_+7` would be another name for `X_7`.
        let canonical = name[2..].parse::<usize>().is_ok_and(|i| i.to_string() == name[2..]);
        if !canonical || element != "Real" {
            return fail(line, format!("{} of type {}", short(name), short(element)), ACCEPTED);
        }
        if self.networks.is_empty() {
            self.version = Some(Version::One);
            self.networks.push(Declared { name: "N".into(), relative: None });
        }
        let variable = Variable {
            name: name.to_owned(),
            kind,
            element: element.to_owned(),
            shape: Vec::new(),
            onnx_name: None,
            network: 0,
            first: 0,
        };
        self.variable(line, variable)
    }

    fn variable(&mut self, line: usize, mut variable: Variable) -> Result<(), Failure> {
        let count = variable.shape.iter().try_fold(1usize, |n, &m| n.checked_mul(m));
        let total = count.filter(|&n| n > 0).and_then(|n| n.checked_add(self.entries));
        let Some(total) = total.filter(|&n| n <= MOST_ENTRIES) else {
            let found = format!("{} of shape {:?}", short(&variable.name), variable.shape);
            return fail(
                line,
                found,
                format!("positive lengths and at most {MOST_ENTRIES} entries of all variables"),
            );
        };
        if self.names.insert(variable.name.clone(), self.variables.len()).is_some() {
            return fail(
                line,
                format!("{} is declared again", short(&variable.name)),
                "names that are declared once",
            );
        }
        variable.first = self.entries;
        self.entries = total;
        self.variables.push(variable);
        Ok(())
    }

    /// `(declare-network NAME [(equal-to OTHER)] (declare-input ...) ...)`.
    fn network(&mut self, line: usize, items: Vec<Item>) -> Result<(), Failure> {
        const ACCEPTED: &str = "(declare-network NAME (declare-input X real [5]) (declare-output Y real [5])), after (vnnlib-version <2.0>)";
        let mut items = items.into_iter();
        let (Some(Item::Word(_, name)), Some(Version::Two)) = (items.next(), self.version) else {
            return fail(line, "declare-network without a name or a version before it", ACCEPTED);
        };
        if self.networks.iter().any(|n| n.name == name) || self.names.contains_key(name) || !identifier(name)
        {
            return fail(line, format!("network {}", short(name)), "a name that is declared once");
        }
        let network = self.networks.len();
        let mut relative = None;
        let mut last = Kind::Input;
        let (mut inputs, mut outputs) = (0, 0);
        for item in items {
            let Item::List(line, parts) = item else { return fail(line, "a word or term", ACCEPTED) };
            match &parts[..] {
                [Item::Word(_, relation @ ("equal-to" | "isomorphic-to")), Item::Word(_, other)] => {
                    let place = self.networks.iter().position(|n| n.name == *other);
                    let (Some(place), None, 0) = (place, relative, inputs + outputs) else {
                        let found = format!("({relation} {other})");
                        return fail(
                            line,
                            found,
                            "one network that is declared before, first in the declaration",
                        );
                    };
                    relative = Some(if *relation == "equal-to" {
                        Relative::Equal(place)
                    } else {
                        Relative::Isomorphic(place)
                    });
                }
                [
                    Item::Word(_, declaration @ ("declare-input" | "declare-output" | "declare-hidden")),
                    Item::Word(_, name),
                    Item::Word(_, element),
                    rest @ ..,
                ] => {
                    let kind = match *declaration {
                        "declare-input" => Kind::Input,
                        "declare-hidden" => Kind::Hidden,
                        _ => Kind::Output,
                    };
                    let (shape, onnx_name) = match rest {
                        [] if kind != Kind::Hidden => ("[]", None),
                        [Item::Word(_, shape)] if kind != Kind::Hidden => (*shape, None),
                        [Item::Word(_, shape), Item::Text(name)] if kind == Kind::Hidden => {
                            (*shape, Some((*name).to_owned()))
                        }
                        _ => {
                            let accepted = "(declare-input X real [5]), (declare-hidden H real [5] \"onnx name\") or (declare-output Y real [5])";
                            return fail(line, format!("({declaration} {name} ...)"), accepted);
                        }
                    };
                    let inner = shape.strip_prefix('[').and_then(|s| s.strip_suffix(']'));
                    let Some(shape) = inner.and_then(lengths) else {
                        return fail(
                            line,
                            format!("shape {}", short(shape)),
                            "lengths in brackets such as [1,28,28], or [] for a scalar",
                        );
                    };
                    if !identifier(name) || self.networks.iter().any(|n| n.name == *name) {
                        return fail(
                            line,
                            short(name),
                            "a name of letters, digits and underscores, declared once",
                        );
                    }
                    let order = |k: Kind| k as u8;
                    if order(kind) < order(last) {
                        return fail(
                            line,
                            format!("({declaration} {name} ...) at this place"),
                            "inputs, then hidden values, then outputs",
                        );
                    }
                    last = kind;
                    inputs += usize::from(kind == Kind::Input);
                    outputs += usize::from(kind == Kind::Output);
                    let (name, element) = ((*name).to_owned(), (*element).to_owned());
                    self.variable(
                        line,
                        Variable { name, kind, element, shape, onnx_name, network, first: 0 },
                    )?;
                }
                _ => return fail(line, "a malformed declaration", ACCEPTED),
            }
        }
        if inputs == 0 || outputs == 0 {
            return fail(
                line,
                format!("network {} with {inputs} inputs and {outputs} outputs", short(name)),
                ACCEPTED,
            );
        }
        self.networks.push(Declared { name: name.to_owned(), relative });
        Ok(())
    }
}

fn too_large(line: usize, why: &str) -> Failure {
    (line, why.to_owned(), "a smaller term".into())
}

fn identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '\''))
}

/// `1,28,28` with blanks; nothing at all is no length.
fn lengths(text: &str) -> Option<Vec<usize>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let digits = |part: &str| {
        let part = part.trim();
        if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    text.split(',').map(digits).collect()
}
