//! A subset of JQL: comparisons of the common fields, AND, OR, NOT, parentheses and ORDER BY, with
//! Jira's error messages.

mod date;
mod evaluate;
mod field;
pub(super) mod filter;
mod lexer;
mod parser;

use super::model::JiraModel;

/// The ids of the issues that the query selects and `viewer` may see, in the query's order.
///
/// # Errors
/// Jira's error messages.
pub(super) fn search(
    model: &JiraModel,
    viewer: Option<&str>,
    text: &str,
) -> Result<Vec<u64>, Vec<String>> {
    let query = parser::parse(text).map_err(|error| vec![error])?;
    evaluate::run(model, viewer, &query)
}

/// Whether a query has no restriction; `false` for a query that does not parse.
pub(super) fn is_unbounded(text: &str) -> bool {
    parser::parse(text).is_ok_and(|query| query.clause.is_none())
}

/// A parsed query.
#[derive(Debug, PartialEq)]
struct JqlQuery {
    /// `None` selects every issue.
    clause: Option<JqlClause>,
    order: Vec<OrderBy>,
}

#[derive(Debug, PartialEq)]
enum JqlClause {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Comparison {
        field: String,
        operator: JqlOperator,
        operands: Vec<JqlOperand>,
    },
}

#[derive(Debug, PartialEq)]
enum JqlOperand {
    Value(String),
    Empty,
    Function(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JqlOperator {
    Equals,
    NotEquals,
    Like,
    NotLike,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    Is,
    IsNot,
}

#[derive(Debug, PartialEq)]
struct OrderBy {
    field: String,
    descending: bool,
}

impl JqlOperator {
    fn text(self) -> &'static str {
        match self {
            Self::Equals => "=",
            Self::NotEquals => "!=",
            Self::Like => "~",
            Self::NotLike => "!~",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
            Self::Is => "is",
            Self::IsNot => "is not",
        }
    }
}
