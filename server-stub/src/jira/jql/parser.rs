//! Tokens → query, with Jira's messages for what does not parse.

use super::lexer::{Kind, Token, tokens};
use super::{Clause, Operand, Operator, Order, Query};

pub(super) fn parse(text: &str) -> Result<Query, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        depth: 0,
    };
    let clause = if parser.peek().is_none() || parser.is_word(ORDER) {
        None
    } else {
        Some(parser.either()?)
    };
    let order = parser.order()?;
    if let Some(token) = parser.peek() {
        return Err(at(
            token,
            &format!("Expecting either 'OR' or 'AND' but got '{}'", token.text()),
        ));
    }
    Ok(Query { clause, order })
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Result<Clause, String> {
        let mut clauses = vec![self.both()?];
        while self.take_word(OR) || self.take_symbol(&["|", "||"]) {
            clauses.push(self.both()?);
        }
        Ok(one_or(clauses, Clause::Or))
    }

    fn both(&mut self) -> Result<Clause, String> {
        let mut clauses = vec![self.single()?];
        while self.take_word(AND) || self.take_symbol(&["&", "&&"]) {
            clauses.push(self.single()?);
        }
        Ok(one_or(clauses, Clause::And))
    }

    fn single(&mut self) -> Result<Clause, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("Error in the JQL Query: The query is nested too deeply.".into());
        }
        let clause = if self.take_word(NOT) || self.take_symbol(&["!"]) {
            Clause::Not(Box::new(self.single()?))
        } else if self.take(&Kind::Open) {
            let clause = self.either()?;
            if !self.take(&Kind::Close) {
                return Err(self.expecting("')'"));
            }
            clause
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(clause)
    }

    fn test(&mut self) -> Result<Clause, String> {
        let field = self.field()?;
        let operator = self.operator()?;
        let operands = match operator {
            Operator::In | Operator::NotIn => self.list()?,
            _ => vec![self.operand()?],
        };
        Ok(Clause::Test {
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
            Kind::Quoted(name) => Ok(name.clone()),
            Kind::Word(name) if !is_keyword(name) => Ok(name.clone()),
            Kind::Word(name) => Err(at(
                token,
                &format!(
                    "Expecting a field name but got '{name}'. You must surround '{name}' in \
                     quotation marks to use it as a field name."
                ),
            )),
            _ => Err(at(
                token,
                &format!("Expecting a field name but got '{}'.", token.text()),
            )),
        }
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let Some(token) = self.next() else {
            return Err(format!(
                "Error in the JQL Query: Expecting operator before the end of the query. {OPERATORS}"
            ));
        };
        let operator = match &token.kind {
            Kind::Symbol("=") => Operator::Equals,
            Kind::Symbol("!=") => Operator::NotEquals,
            Kind::Symbol("~") => Operator::Like,
            Kind::Symbol("!~") => Operator::NotLike,
            Kind::Symbol("<") => Operator::Less,
            Kind::Symbol("<=") => Operator::LessOrEqual,
            Kind::Symbol(">") => Operator::Greater,
            Kind::Symbol(">=") => Operator::GreaterOrEqual,
            Kind::Word(word) if word.eq_ignore_ascii_case(IN) => Operator::In,
            Kind::Word(word) if word.eq_ignore_ascii_case(IS) => {
                if self.take_word(NOT) {
                    Operator::IsNot
                } else {
                    Operator::Is
                }
            }
            Kind::Word(word) if word.eq_ignore_ascii_case(NOT) && self.take_word(IN) => {
                Operator::NotIn
            }
            _ => {
                return Err(at(
                    token,
                    &format!("Expecting operator but got '{}'. {OPERATORS}", token.text()),
                ));
            }
        };
        Ok(operator)
    }

    fn list(&mut self) -> Result<Vec<Operand>, String> {
        if !self.take(&Kind::Open) {
            return Ok(vec![self.operand()?]);
        }
        let mut operands = vec![self.operand()?];
        while self.take(&Kind::Comma) {
            operands.push(self.operand()?);
        }
        if self.take(&Kind::Close) {
            Ok(operands)
        } else {
            Err(self.expecting("')'"))
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let Some(token) = self.next() else {
            return Err(
                "Error in the JQL Query: Expecting either a value, list or function before the end of \
                 the query."
                    .into(),
            );
        };
        match &token.kind {
            Kind::Quoted(text) => Ok(Operand::Value(text.clone())),
            Kind::Word(word) if ["empty", "null"].contains(&word.to_ascii_lowercase().as_str()) => {
                Ok(Operand::Empty)
            }
            Kind::Word(word) if is_keyword(word) => Err(at(
                token,
                &format!(
                    "Expecting either a value, list or function but got '{word}'. You must surround \
                     '{word}' in quotation marks to use it as a value."
                ),
            )),
            Kind::Word(word) if self.take(&Kind::Open) => {
                if self.take(&Kind::Close) {
                    Ok(Operand::Function(word.to_ascii_lowercase()))
                } else {
                    Err(self.expecting("')'"))
                }
            }
            Kind::Word(word) => Ok(Operand::Value(word.clone())),
            _ => Err(at(
                token,
                &format!(
                    "Expecting either a value, list or function but got '{}'.",
                    token.text()
                ),
            )),
        }
    }

    fn order(&mut self) -> Result<Vec<Order>, String> {
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
            order.push(Order { field, descending });
            if !self.take(&Kind::Comma) {
                return Ok(order);
            }
        }
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.at);
        self.at += usize::from(token.is_some());
        token
    }

    fn take(&mut self, kind: &Kind) -> bool {
        let taken = self.peek().is_some_and(|token| token.kind == *kind);
        self.at += usize::from(taken);
        taken
    }

    fn take_symbol(&mut self, symbols: &[&'static str]) -> bool {
        symbols
            .iter()
            .any(|symbol| self.take(&Kind::Symbol(symbol)))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let taken = self.is_word(word);
        self.at += usize::from(taken);
        taken
    }

    fn is_word(&self, word: &str) -> bool {
        self.peek().is_some_and(
            |token| matches!(&token.kind, Kind::Word(w) if w.eq_ignore_ascii_case(word)),
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

fn one_or(mut clauses: Vec<Clause>, many: fn(Vec<Clause>) -> Clause) -> Clause {
    if clauses.len() == 1 {
        clauses.remove(0)
    } else {
        many(clauses)
    }
}

fn at(token: &Token, what: &str) -> String {
    let Token {
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
/// Deeper ones are no query that a person or a client writes.
const MAX_DEPTH: usize = 64;
const OPERATORS: &str = "The valid operators are '=', '!=', '<', '>', '<=', '>=', '~', '!~', 'IN', \
                         'NOT IN', 'IS' and 'IS NOT'.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn and_binds_stronger_than_or() {
        let test = |field: &str| Clause::Test {
            field: field.into(),
            operator: Operator::Equals,
            operands: vec![Operand::Value("1".into())],
        };
        assert_eq!(
            parse("a = 1 or b = 1 AND not c = '1'").unwrap().clause,
            Some(Clause::Or(vec![
                test("a"),
                Clause::And(vec![test("b"), Clause::Not(Box::new(test("c")))]),
            ]))
        );
    }

    #[test]
    fn what_does_not_parse_is_told_in_jiras_words() {
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
