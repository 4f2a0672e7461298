//! Operators between each value of a row and a number.

use super::evaluate::Row;

/// An operator between each value and a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Map {
    /// Which.
    pub(super) operator: Operator,
    /// The number.
    pub(super) number: f64,
    /// Whether the number stands on the left.
    pub(super) number_first: bool,
    /// Of a comparison: 1 and 0 instead of leaving out.
    pub(super) as_bool: bool,
}

impl Map {
    /// Whether rows lose the name of their series.
    pub(super) fn drops_name(self) -> bool {
        self.as_bool || !self.operator.compares()
    }

    /// Its row; a comparison keeps the row's value where it holds.
    pub(super) fn apply(self, row: Row) -> Row {
        let labels = if self.drops_name() { row.labels.unnamed() } else { row.labels };
        let join = |value: f64| {
            let (left, right) = if self.number_first { (self.number, value) } else { (value, self.number) };
            let joined = self.operator.apply(left, right);
            if self.operator.compares() && !self.as_bool { (joined != 0.0).then_some(value) } else { Some(joined) }
        };
        Row { labels, values: row.values.into_iter().map(|value| value.and_then(join)).collect() }
    }
}

/// Arithmetic and comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// By its sign.
    pub(super) fn parse(sign: &str) -> Option<Self> {
        Some(match sign {
            "+" => Self::Add,
            "-" => Self::Subtract,
            "*" => Self::Multiply,
            "/" => Self::Divide,
            "%" => Self::Modulo,
            "^" => Self::Power,
            "atan2" => Self::Atan2,
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// Whether it compares.
    pub(super) fn compares(self) -> bool {
        self as u8 >= Self::Equal as u8
    }

    /// Its value; of a comparison 1 or 0.
    pub(super) fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Modulo => left % right,
            Self::Power => left.powf(right),
            Self::Atan2 => left.atan2(right),
            Self::Equal => f64::from(left == right),
            Self::NotEqual => f64::from(left != right),
            Self::Less => f64::from(left < right),
            Self::LessOrEqual => f64::from(left <= right),
            Self::Greater => f64::from(left > right),
            Self::GreaterOrEqual => f64::from(left >= right),
        }
    }
}
