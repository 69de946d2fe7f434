//! Parses tokens into a query, with Jira's error messages.

use super::lexer::{JqlToken, JqlTokenKind, tokens};
use super::{JqlClause, JqlOperand, JqlOperator, JqlQuery, OrderBy};

pub(super) fn parse(text: &str) -> Result<JqlQuery, String> {
    let tokens = tokens(text)?;
    let mut parser = JqlParser {
        tokens: &tokens,
        at: 0,
        depth: 0,
    };
    let clause = if parser.peek().is_none() || parser.is_word(ORDER) {
        None
    } else {
        Some(parser.or_clause()?)
    };
    let order = parser.order()?;
    if let Some(token) = parser.peek() {
        return Err(at(
            token,
            &format!("Expecting either 'OR' or 'AND' but got '{}'", token.text()),
        ));
    }
    Ok(JqlQuery { clause, order })
}

struct JqlParser<'a> {
    tokens: &'a [JqlToken],
    at: usize,
    depth: usize,
}

impl<'a> JqlParser<'a> {
    fn or_clause(&mut self) -> Result<JqlClause, String> {
        let mut clauses = vec![self.and_clause()?];
        while self.take_word(OR) || self.take_symbol(&["|", "||"]) {
            clauses.push(self.and_clause()?);
        }
        Ok(single_or(clauses, JqlClause::Or))
    }

    fn and_clause(&mut self) -> Result<JqlClause, String> {
        let mut clauses = vec![self.not_clause()?];
        while self.take_word(AND) || self.take_symbol(&["&", "&&"]) {
            clauses.push(self.not_clause()?);
        }
        Ok(single_or(clauses, JqlClause::And))
    }

    fn not_clause(&mut self) -> Result<JqlClause, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("Error in the JQL Query: The query is nested too deeply.".into());
        }
        let clause = if self.take_word(NOT) || self.take_symbol(&["!"]) {
            JqlClause::Not(Box::new(self.not_clause()?))
        } else if self.take(&JqlTokenKind::Open) {
            let clause = self.or_clause()?;
            if !self.take(&JqlTokenKind::Close) {
                return Err(self.expecting("')'"));
            }
            clause
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(clause)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are treated alike"
    )]
    fn comparison(&mut self) -> Result<JqlClause, String> {
        let field = self.field()?;
        let operator = self.operator()?;
        let operands = match operator {
            JqlOperator::In | JqlOperator::NotIn => self.list()?,
            _ => vec![self.operand()?],
        };
        Ok(JqlClause::Comparison {
            field,
            operator,
            operands,
        })
    }

    fn field(&mut self) -> Result<String, String> {
        let Some(token) = self.next() else {
            return Err(
                "Error in the JQL Query: Expecting a field name at the end of the query.".into(),
            );
        };
        match &token.kind {
            JqlTokenKind::Quoted(name) => Ok(name.clone()),
            JqlTokenKind::Word(name) if !is_keyword(name) => Ok(name.clone()),
            JqlTokenKind::Word(name) => Err(at(
                token,
                &format!(
                    "Expecting a field name but got '{name}'. You must surround '{name}' in \
                     quotation marks to use it as a field name."
                ),
            )),
            JqlTokenKind::Symbol(_)
            | JqlTokenKind::Open
            | JqlTokenKind::Close
            | JqlTokenKind::Comma => Err(at(
                token,
                &format!("Expecting a field name but got '{}'.", token.text()),
            )),
        }
    }

    fn operator(&mut self) -> Result<JqlOperator, String> {
        let Some(token) = self.next() else {
            return Err(format!(
                "Error in the JQL Query: Expecting operator before the end of the query. {OPERATORS}"
            ));
        };
        let operator = match &token.kind {
            JqlTokenKind::Symbol("=") => JqlOperator::Equals,
            JqlTokenKind::Symbol("!=") => JqlOperator::NotEquals,
            JqlTokenKind::Symbol("~") => JqlOperator::Like,
            JqlTokenKind::Symbol("!~") => JqlOperator::NotLike,
            JqlTokenKind::Symbol("<") => JqlOperator::Less,
            JqlTokenKind::Symbol("<=") => JqlOperator::LessOrEqual,
            JqlTokenKind::Symbol(">") => JqlOperator::Greater,
            JqlTokenKind::Symbol(">=") => JqlOperator::GreaterOrEqual,
            JqlTokenKind::Word(word) if word.eq_ignore_ascii_case(IN) => JqlOperator::In,
            JqlTokenKind::Word(word) if word.eq_ignore_ascii_case(IS) => {
                if self.take_word(NOT) {
                    JqlOperator::IsNot
                } else {
                    JqlOperator::Is
                }
            }
            JqlTokenKind::Word(word) if word.eq_ignore_ascii_case(NOT) && self.take_word(IN) => {
                JqlOperator::NotIn
            }
            JqlTokenKind::Word(_)
            | JqlTokenKind::Quoted(_)
            | JqlTokenKind::Symbol(_)
            | JqlTokenKind::Open
            | JqlTokenKind::Close
            | JqlTokenKind::Comma => {
                return Err(at(
                    token,
                    &format!("Expecting operator but got '{}'. {OPERATORS}", token.text()),
                ));
            }
        };
        Ok(operator)
    }

    fn list(&mut self) -> Result<Vec<JqlOperand>, String> {
        if !self.take(&JqlTokenKind::Open) {
            return Ok(vec![self.operand()?]);
        }
        let mut operands = vec![self.operand()?];
        while self.take(&JqlTokenKind::Comma) {
            operands.push(self.operand()?);
        }
        if self.take(&JqlTokenKind::Close) {
            Ok(operands)
        } else {
            Err(self.expecting("')'"))
        }
    }

    fn operand(&mut self) -> Result<JqlOperand, String> {
        let Some(token) = self.next() else {
            return Err(
                "Error in the JQL Query: Expecting either a value, list or function before the end of \
                 the query."
                    .into(),
            );
        };
        match &token.kind {
            JqlTokenKind::Quoted(text) => Ok(JqlOperand::Value(text.clone())),
            JqlTokenKind::Word(word)
                if ["empty", "null"].contains(&word.to_ascii_lowercase().as_str()) =>
            {
                Ok(JqlOperand::Empty)
            }
            JqlTokenKind::Word(word) if is_keyword(word) => Err(at(
                token,
                &format!(
                    "Expecting either a value, list or function but got '{word}'. You must surround \
                     '{word}' in quotation marks to use it as a value."
                ),
            )),
            JqlTokenKind::Word(word) if self.take(&JqlTokenKind::Open) => {
                if self.take(&JqlTokenKind::Close) {
                    Ok(JqlOperand::Function(word.to_ascii_lowercase()))
                } else {
                    Err(self.expecting("')'"))
                }
            }
            JqlTokenKind::Word(word) => Ok(JqlOperand::Value(word.clone())),
            JqlTokenKind::Symbol(_)
            | JqlTokenKind::Open
            | JqlTokenKind::Close
            | JqlTokenKind::Comma => Err(at(
                token,
                &format!(
                    "Expecting either a value, list or function but got '{}'.",
                    token.text()
                ),
            )),
        }
    }

    fn order(&mut self) -> Result<Vec<OrderBy>, String> {
        if !self.take_word(ORDER) {
            return Ok(Vec::new());
        }
        if !self.take_word(BY) {
            return Err(self.expecting("'by'"));
        }
        let mut order = Vec::new();
        loop {
            let field = self.field()?;
            let descending = self.take_word(DESC);
            if !descending {
                self.take_word(ASC);
            }
            order.push(OrderBy { field, descending });
            if !self.take(&JqlTokenKind::Comma) {
                return Ok(order);
            }
        }
    }

    fn peek(&self) -> Option<&'a JqlToken> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a JqlToken> {
        let token = self.tokens.get(self.at);
        self.at += usize::from(token.is_some());
        token
    }

    fn take(&mut self, kind: &JqlTokenKind) -> bool {
        let taken = self.peek().is_some_and(|token| token.kind == *kind);
        self.at += usize::from(taken);
        taken
    }

    fn take_symbol(&mut self, symbols: &[&'static str]) -> bool {
        symbols
            .iter()
            .any(|symbol| self.take(&JqlTokenKind::Symbol(symbol)))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let taken = self.is_word(word);
        self.at += usize::from(taken);
        taken
    }

    fn is_word(&self, word: &str) -> bool {
        self.peek().is_some_and(
            |token| matches!(&token.kind, JqlTokenKind::Word(w) if w.eq_ignore_ascii_case(word)),
        )
    }

    fn expecting(&self, what: &str) -> String {
        match self.peek() {
            Some(token) => at(
                token,
                &format!("Expecting {what} but got '{}'.", token.text()),
            ),
            None => {
                format!("Error in the JQL Query: Expecting {what} before the end of the query.")
            }
        }
    }
}

fn single_or(mut clauses: Vec<JqlClause>, many: fn(Vec<JqlClause>) -> JqlClause) -> JqlClause {
    if clauses.len() == 1 {
        clauses.remove(0)
    } else {
        many(clauses)
    }
}

fn at(token: &JqlToken, what: &str) -> String {
    let JqlToken {
        line, character, ..
    } = token;
    format!("Error in the JQL Query: {what} (line {line}, character {character})")
}

fn is_keyword(word: &str) -> bool {
    [AND, OR, NOT, IN, IS, ORDER, BY, ASC, DESC]
        .iter()
        .any(|keyword| keyword.eq_ignore_ascii_case(word))
}

const AND: &str = "and";
const OR: &str = "or";
const NOT: &str = "not";
const IN: &str = "in";
const IS: &str = "is";
const ORDER: &str = "order";
const BY: &str = "by";
const ASC: &str = "asc";
const DESC: &str = "desc";
/// Deeper than any query of a person or a client.
const MAX_DEPTH: usize = 64;
const OPERATORS: &str = "The valid operators are '=', '!=', '<', '>', '<=', '>=', '~', '!~', 'IN', \
                         'NOT IN', 'IS' and 'IS NOT'.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn and_binds_stronger_than_or() {
        let test = |field: &str| JqlClause::Comparison {
            field: field.into(),
            operator: JqlOperator::Equals,
            operands: vec![JqlOperand::Value("1".into())],
        };
        assert_eq!(
            parse("a = 1 or b = 1 AND not c = '1'").unwrap().clause,
            Some(JqlClause::Or(vec![
                test("a"),
                JqlClause::And(vec![test("b"), JqlClause::Not(Box::new(test("c")))]),
            ]))
        );
    }

    #[test]
    fn parse_errors_have_jiras_messages() {
        for (text, message) in [
            (
                "project DEMO",
                "Error in the JQL Query: Expecting operator but got 'DEMO'. The valid operators are \
                 '=', '!=', '<', '>', '<=', '>=', '~', '!~', 'IN', 'NOT IN', 'IS' and 'IS NOT'. \
                 (line 1, character 9)",
            ),
            (
                "project = DEMO AND",
                "Error in the JQL Query: Expecting a field name at the end of the query.",
            ),
            (
                "project in (A, B",
                "Error in the JQL Query: Expecting ')' before the end of the query.",
            ),
            (
                "summary ~ 50%",
                "Error in the JQL Query: The character '%' is a reserved JQL character. You must \
                 enclose it in a string or use the escape '\\u0025' instead. (line 1, character 13)",
            ),
            (
                "a = 1 b = 2",
                "Error in the JQL Query: Expecting either 'OR' or 'AND' but got 'b' (line 1, character 7)",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{}a = 1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(parse(&deep).is_err());
    }
}
