//! From an expression to a plan: one selector, what becomes of its samples, and the stages that its rows pass.
//!
//! Arithmetic between two vectors is beyond the subset, so that an expression holds at most one selector and a plan is a
//! pipeline: rows can pass it device by device, and an aggregation keeps its groups alone. What is beyond the subset is
//! refused with its place.

use promql_parser::{
    label::{Labels as LabelNames, Matcher},
    parser::{AggregateExpr, AtModifier, BinModifier, BinaryExpr, Call, Expr, LabelModifier, Offset, VectorSelector},
};

use super::{
    moments::Figure,
    operator::{Map, Operator},
    place::{Places, Refusal},
    syntax,
    window::Reduce,
};

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    /// One number.
    Scalar(f64),
    /// Rows of a selector.
    Vector(Pipeline),
}

/// A selector and what its rows pass.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    /// Where rows come from.
    pub(super) source: Source,
    /// What they pass, in this order.
    pub(super) stages: Vec<Stage>,
}

/// Which samples a step sees, and what it makes of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    /// What labels must be like.
    pub(super) matchers: Vec<Matcher>,
    /// How far back: negative is ahead.
    pub(super) offset_millis: i64,
    /// From which instant instead of the step's own.
    pub(super) at: Option<At>,
    /// How long: the lookback of the query unless a range says.
    pub(super) range_millis: Option<i64>,
    /// What becomes of the samples.
    pub(super) reduce: Reduce,
    /// Whether rows keep the name of their series.
    pub(super) named: bool,
}

/// An instant that is the same for all steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The first step.
    Start,
    /// The last step.
    End,
    /// Milliseconds since 1970.
    Millis(i64),
}

/// Something that rows pass.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// Each value is joined with a number.
    Map(Map),
    /// Rows are gathered into groups.
    Aggregate(Aggregate),
}

/// Rows into groups.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Aggregate {
    /// What becomes of the values of a group.
    pub(super) gather: Gather,
    /// The labels that make the group.
    pub(super) grouping: Grouping,
}

/// What becomes of the values of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Gather {
    /// A figure.
    Figure(Figure),
    /// A quantile.
    Quantile(f64),
}

/// The labels that make a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grouping {
    /// These.
    By(Vec<String>),
    /// All but these and the name.
    Without(Vec<String>),
}

/// The functions over a range that are answered.
const FUNCTIONS: &str = "avg_over_time, min_over_time, max_over_time, sum_over_time, count_over_time, stddev_over_time, \
    stdvar_over_time, quantile_over_time, last_over_time, present_over_time";
const AGGREGATIONS: &str = "sum, min, max, avg, count, stddev, stdvar, quantile, group";
const VECTORS: &str = "one side must be a number: vectors are not matched with vectors";

/// Reads an expression.
///
/// # Errors
/// What it holds beyond the subset, or why it is no expression, with the place.
pub(super) fn plan(text: &str) -> Result<Plan, Refusal> {
    let (expression, places) = syntax::parse(text)?;
    Planner { places }.plan(&expression)
}

/// Reads a selector alone, as `match[]` has it.
///
/// # Errors
/// As [`plan`], and where it is anything but a selector.
pub(super) fn selector(text: &str) -> Result<Vec<Matcher>, Refusal> {
    let (expression, places) = syntax::parse(text)?;
    let mut planner = Planner { places };
    match (planner.plan(&expression)?, expression) {
        (Plan::Vector(pipeline), Expr::VectorSelector(VectorSelector { offset: None, at: None, .. })) => {
            Ok(pipeline.source.matchers)
        }
        _ => Err(refusal("no selector", 1, "match[] takes a selector such as inlet_c{device=\"d1\"}")),
    }
}

pub(super) fn refusal(what: impl Into<String>, position: usize, remedy: impl Into<String>) -> Refusal {
    Refusal { what: what.into(), position, remedy: remedy.into() }
}

/// Walks an expression in the order of its text.
struct Planner<'a> {
    places: Places<'a>,
}

impl Planner<'_> {
    fn plan(&mut self, expression: &Expr) -> Result<Plan, Refusal> {
        match expression {
            Expr::NumberLiteral(literal) => {
                self.places.number();
                Ok(Plan::Scalar(literal.val))
            }
            Expr::Paren(inner) => self.plan(&inner.expr),
            Expr::Unary(inner) => {
                self.places.sign("-");
                Ok(match self.plan(&inner.expr)? {
                    Plan::Scalar(number) => Plan::Scalar(-number),
                    Plan::Vector(pipeline) => pipeline.then(Stage::Map(Map {
                        operator: Operator::Multiply,
                        number: -1.0,
                        number_first: false,
                        as_bool: false,
                    })),
                })
            }
            Expr::Binary(binary) => self.binary(binary),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Call(call) => self.call(call),
            Expr::VectorSelector(selector) => self.vector(selector),
            Expr::MatrixSelector(matrix) => {
                let position = self.places.selector(matrix.vs.name.as_deref());
                Err(refusal("a range selector", position, format!("give it to a function: {FUNCTIONS}")))
            }
            Expr::Subquery(_) => Err(self.subquery()),
            Expr::StringLiteral(_) | Expr::Extension(_) => {
                Err(refusal("a text", self.places.text(), "texts stand in selectors only"))
            }
        }
    }

    fn binary(&mut self, binary: &BinaryExpr) -> Result<Plan, Refusal> {
        let sign = binary.op.to_string();
        let left = self.plan(&binary.lhs)?;
        let position = self.places.sign(&sign);
        let Some(operator) = Operator::parse(&sign) else {
            return Err(refusal(format!("operator {sign:?}"), position, "set operators are not answered"));
        };
        let matched =
            |modifier: &BinModifier| *modifier != BinModifier::default().with_return_bool(modifier.return_bool);
        if binary.modifier.as_ref().is_some_and(matched) {
            return Err(refusal(format!("operator {sign:?} with matching"), position, VECTORS));
        }
        let right = self.plan(&binary.rhs)?;
        let as_bool = binary.return_bool();
        let map = |number, number_first| Stage::Map(Map { operator, number, number_first, as_bool });
        match (left, right) {
            (Plan::Scalar(left), Plan::Scalar(right)) => Ok(Plan::Scalar(operator.apply(left, right))),
            (Plan::Vector(pipeline), Plan::Scalar(number)) => Ok(pipeline.then(map(number, false))),
            (Plan::Scalar(number), Plan::Vector(pipeline)) => Ok(pipeline.then(map(number, true))),
            (Plan::Vector(_), Plan::Vector(_)) => {
                Err(refusal(format!("operator {sign:?} between two vectors"), position, VECTORS))
            }
        }
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr) -> Result<Plan, Refusal> {
        let name = aggregate.op.to_string();
        let position = self.places.call(&name);
        let figure = match name.as_str() {
            "avg" => Some(Figure::Average),
            "sum" => Some(Figure::Sum),
            "min" => Some(Figure::Minimum),
            "max" => Some(Figure::Maximum),
            "count" => Some(Figure::Count),
            "stddev" => Some(Figure::Deviation),
            "stdvar" => Some(Figure::Variance),
            "group" => Some(Figure::Presence),
            _ => None,
        };
        let gather = match (figure, aggregate.param.as_deref()) {
            (Some(figure), _) => Gather::Figure(figure),
            (None, Some(parameter)) if name == "quantile" => Gather::Quantile(self.scalar(parameter, position)?),
            _ => {
                let remedy = format!("the aggregations are {AGGREGATIONS}");
                return Err(refusal(format!("aggregation {name:?}"), position, remedy));
            }
        };
        let names = |names: &LabelNames| names.labels.clone();
        let grouping = match &aggregate.modifier {
            None => Grouping::By(Vec::new()),
            Some(LabelModifier::Include(labels)) => Grouping::By(names(labels)),
            Some(LabelModifier::Exclude(labels)) => Grouping::Without(names(labels)),
        };
        match self.plan(&aggregate.expr)? {
            Plan::Vector(pipeline) => Ok(pipeline.then(Stage::Aggregate(Aggregate { gather, grouping }))),
            Plan::Scalar(_) => Err(refusal(format!("aggregation {name:?}"), position, "it takes an instant vector")),
        }
    }

    fn call(&mut self, call: &Call) -> Result<Plan, Refusal> {
        let name = call.func.name;
        let position = self.places.call(name);
        let reduce = match name {
            "avg_over_time" => Reduce::Figure(Figure::Average),
            "min_over_time" => Reduce::Figure(Figure::Minimum),
            "max_over_time" => Reduce::Figure(Figure::Maximum),
            "sum_over_time" => Reduce::Figure(Figure::Sum),
            "count_over_time" => Reduce::Figure(Figure::Count),
            "stddev_over_time" => Reduce::Figure(Figure::Deviation),
            "stdvar_over_time" => Reduce::Figure(Figure::Variance),
            "present_over_time" => Reduce::Figure(Figure::Presence),
            "last_over_time" => Reduce::Last,
            "quantile_over_time" => match call.args.args.first() {
                Some(parameter) => Reduce::Quantile(self.scalar(parameter, position)?),
                None => return Err(refusal(format!("function {name:?}"), position, "it takes a quantile and a range")),
            },
            _ => {
                return Err(refusal(format!("function {name:?}"), position, format!("the functions are {FUNCTIONS}")));
            }
        };
        match call.args.args.last().map(|argument| unwrapped(argument)) {
            Some(Expr::MatrixSelector(matrix)) => {
                let mut source = self.source(&matrix.vs, reduce)?;
                source.range_millis = Some(millis(matrix.range));
                source.named = reduce == Reduce::Last;
                Ok(Plan::Vector(Pipeline { source, stages: Vec::new() }))
            }
            Some(Expr::Subquery(_)) => Err(self.subquery()),
            _ => Err(refusal(format!("function {name:?}"), position, "it takes a range such as inlet_c[1h]")),
        }
    }

    fn subquery(&self) -> Refusal {
        refusal("a subquery", self.places.subquery(), "subqueries are not answered; query_range takes a step")
    }

    fn vector(&mut self, selector: &VectorSelector) -> Result<Plan, Refusal> {
        let source = self.source(selector, Reduce::Last)?;
        Ok(Plan::Vector(Pipeline { source, stages: Vec::new() }))
    }

    fn source(&mut self, selector: &VectorSelector, reduce: Reduce) -> Result<Source, Refusal> {
        let position = self.places.selector(selector.name.as_deref());
        if !selector.matchers.or_matchers.is_empty() {
            return Err(refusal("\"or\" in a selector", position, "all matchers of a selector must hold"));
        }
        let name = selector
            .name
            .as_deref()
            .map(|name| Matcher::new(promql_parser::label::MatchOp::Equal, super::labels::NAME, name));
        let offset_millis = match selector.offset {
            None => 0,
            Some(Offset::Pos(offset)) => millis(offset),
            Some(Offset::Neg(offset)) => -millis(offset),
        };
        let at = selector.at.as_ref().map(|at| match at {
            AtModifier::Start => At::Start,
            AtModifier::End => At::End,
            AtModifier::At(time) => At::Millis(match time.duration_since(std::time::UNIX_EPOCH) {
                Ok(after) => millis(after),
                Err(before) => -millis(before.duration()),
            }),
        });
        let matchers = name.into_iter().chain(selector.matchers.matchers.iter().cloned()).collect();
        Ok(Source { matchers, offset_millis, at, range_millis: None, reduce, named: true })
    }

    /// A parameter, which must be a number.
    fn scalar(&mut self, expression: &Expr, position: usize) -> Result<f64, Refusal> {
        match self.plan(expression)? {
            Plan::Scalar(number) => Ok(number),
            Plan::Vector(_) => Err(refusal("a parameter", position, "it must be a number")),
        }
    }
}

impl Pipeline {
    fn then(mut self, stage: Stage) -> Plan {
        self.stages.push(stage);
        Plan::Vector(self)
    }
}

/// What stands inside of parentheses.
fn unwrapped(mut expression: &Expr) -> &Expr {
    while let Expr::Paren(inner) = expression {
        expression = &inner.expr;
    }
    expression
}

/// A length in milliseconds; one beyond all of time is held at a length that can still be added to any instant.
fn millis(length: std::time::Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}
