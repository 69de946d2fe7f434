//! Evaluates a query: first checks every value against what the viewer may see, then every issue
//! against the query.

use std::cmp::Ordering;

use super::date::{date_value, parse_date};
use super::field::{JqlField, allowed, field, no_field};
use super::{JqlClause, JqlOperand, JqlOperator, JqlQuery};
use crate::jira::model::catalogue::{CatalogueItem, IssueStatus, IssueType, Priority, Resolution};
use crate::jira::model::fields::FieldKind;
use crate::jira::model::{Issue, JiraModel};

pub(super) fn run(
    model: &JiraModel,
    viewer: Option<&str>,
    query: &JqlQuery,
) -> Result<Vec<u64>, Vec<String>> {
    let scope = QueryEvaluator { model, viewer };
    let mut errors = Vec::new();
    if let Some(clause) = &query.clause {
        scope.check(clause, &mut errors);
    }
    let mut order = Vec::new();
    for one in &query.order {
        match field(&one.field) {
            Some(known) => order.push((known, one.descending)),
            None => errors.push(no_field(&one.field)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let visible = model.visible_projects(viewer);
    let mut found: Vec<&Issue> = model
        .issues()
        .filter(|issue| visible.contains(&issue.project))
        .filter(|issue| {
            query
                .clause
                .as_ref()
                .is_none_or(|clause| scope.matches(clause, issue))
        })
        .collect();
    found.sort_by(|a, b| {
        order
            .iter()
            .map(|(field, descending)| {
                let ordering = scope.compare(field, a, b);
                if *descending {
                    ordering.reverse()
                } else {
                    ordering
                }
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or_else(|| b.id.cmp(&a.id))
    });
    Ok(found.into_iter().map(|issue| issue.id).collect())
}

pub(super) struct QueryEvaluator<'a> {
    pub model: &'a JiraModel,
    pub viewer: Option<&'a str>,
}

impl QueryEvaluator<'_> {
    pub(super) fn check(&self, clause: &JqlClause, errors: &mut Vec<String>) {
        match clause {
            JqlClause::And(clauses) | JqlClause::Or(clauses) => {
                clauses.iter().for_each(|clause| self.check(clause, errors));
            }
            JqlClause::Not(clause) => self.check(clause, errors),
            JqlClause::Comparison {
                field: name,
                operator,
                operands,
            } => {
                let Some(target) = field(name) else {
                    errors.push(no_field(name));
                    return;
                };
                if !allowed(target, *operator) {
                    errors.push(format!(
                        "The operator '{}' is not supported by the '{name}' field.",
                        operator.text()
                    ));
                    return;
                }
                for operand in operands {
                    errors.extend(self.check_operand(target, name, *operator, operand));
                }
            }
        }
    }

    fn check_operand(
        &self,
        target: JqlField,
        name: &str,
        operator: JqlOperator,
        operand: &JqlOperand,
    ) -> Option<String> {
        let value = match operand {
            JqlOperand::Empty => return None,
            JqlOperand::Function(function) if FUNCTIONS.contains(&function.as_str()) => {
                return None;
            }
            JqlOperand::Function(function) => {
                return Some(format!("Unable to find JQL function '{function}()'."));
            }
            JqlOperand::Value(value) => value,
        };
        if matches!(operator, JqlOperator::Like | JqlOperator::NotLike) {
            return None;
        }
        // An anonymous search finds nothing instead of revealing which values exist.
        self.viewer?;
        let known = match target {
            JqlField::Key => {
                return self.model.visible_issue(self.viewer, value).err().map(|_| {
                    format!("An issue with key '{value}' does not exist for field '{name}'.")
                });
            }
            JqlField::AllText | JqlField::StatusCategory => true,
            JqlField::Field(field) => match field.kind {
                FieldKind::Project => {
                    self.model
                        .visible_projects(self.viewer)
                        .into_iter()
                        .any(|project| {
                            let project = &self.model.projects[project];
                            project.key.eq_ignore_ascii_case(value)
                                || project.name.eq_ignore_ascii_case(value)
                                || project.id.to_string() == *value
                        })
                }
                FieldKind::IssueType => IssueType::by_either(value).is_some(),
                FieldKind::Priority => Priority::by_either(value).is_some(),
                FieldKind::Resolution => {
                    value.eq_ignore_ascii_case("unresolved")
                        || Resolution::by_either(value).is_some()
                }
                FieldKind::User => self.model.users.find(value).is_some(),
                FieldKind::Date => parse_date(value).is_some(),
                FieldKind::Stored {
                    schema: "datetime", ..
                } => {
                    if parse_date(value).is_none() {
                        return Some(format!(
                            "Date value '{value}' for field '{name}' is invalid. Valid formats \
                             include: 'yyyy/MM/dd HH:mm', 'yyyy-MM-dd HH:mm', 'yyyy/MM/dd', \
                             'yyyy-MM-dd', or a period format e.g. '-5d', '4w 2d'."
                        ));
                    }
                    true
                }
                FieldKind::Stored {
                    schema: "status", ..
                } => IssueStatus::by_either(value).is_some(),
                FieldKind::Stored { schema: "user", .. } => self.model.users.find(value).is_some(),
                FieldKind::Summary
                | FieldKind::Text
                | FieldKind::Line
                | FieldKind::Number
                | FieldKind::Labels
                | FieldKind::Components
                | FieldKind::Versions
                | FieldKind::Parent
                | FieldKind::Stored { .. } => true,
            },
        };
        (!known).then(|| format!("The value '{value}' does not exist for the field '{name}'."))
    }

    pub(super) fn matches(&self, clause: &JqlClause, issue: &Issue) -> bool {
        match clause {
            JqlClause::And(clauses) => clauses.iter().all(|clause| self.matches(clause, issue)),
            JqlClause::Or(clauses) => clauses.iter().any(|clause| self.matches(clause, issue)),
            JqlClause::Not(clause) => !self.matches(clause, issue),
            JqlClause::Comparison {
                field: name,
                operator,
                operands,
            } => {
                field(name).is_some_and(|target| self.compares(target, *operator, operands, issue))
            }
        }
    }

    fn compares(
        &self,
        target: JqlField,
        operator: JqlOperator,
        operands: &[JqlOperand],
        issue: &Issue,
    ) -> bool {
        let terms = self.terms(target, issue);
        let any = || {
            operands
                .iter()
                .any(|operand| self.equal(target, &terms, operand))
        };
        match operator {
            JqlOperator::Equals | JqlOperator::In | JqlOperator::Is => any(),
            JqlOperator::IsNot => !any(),
            // Jira excludes issues whose field is empty.
            JqlOperator::NotEquals | JqlOperator::NotIn => !terms.is_empty() && !any(),
            JqlOperator::Like => operands
                .iter()
                .any(|operand| contains_words(&terms, operand)),
            JqlOperator::NotLike => !operands
                .iter()
                .any(|operand| contains_words(&terms, operand)),
            JqlOperator::Less
            | JqlOperator::LessOrEqual
            | JqlOperator::Greater
            | JqlOperator::GreaterOrEqual => operands.iter().any(|operand| {
                self.order_of(target, issue, operand)
                    .is_some_and(|order| match operator {
                        JqlOperator::Less => order.is_lt(),
                        JqlOperator::LessOrEqual => order.is_le(),
                        JqlOperator::Greater => order.is_gt(),
                        JqlOperator::Equals
                        | JqlOperator::NotEquals
                        | JqlOperator::Like
                        | JqlOperator::NotLike
                        | JqlOperator::GreaterOrEqual
                        | JqlOperator::In
                        | JqlOperator::NotIn
                        | JqlOperator::Is
                        | JqlOperator::IsNot => order.is_ge(),
                    })
            }),
        }
    }

    fn equal(&self, target: JqlField, terms: &[String], operand: &JqlOperand) -> bool {
        match operand {
            JqlOperand::Empty => terms.is_empty(),
            JqlOperand::Function(function) if function == "currentuser" => self
                .viewer
                .is_some_and(|viewer| terms.iter().any(|term| term.eq_ignore_ascii_case(viewer))),
            JqlOperand::Function(_) => false,
            JqlOperand::Value(value) => {
                let unresolved = matches!(target, JqlField::Field(field) if field.kind == FieldKind::Resolution)
                    && value.eq_ignore_ascii_case("unresolved");
                (unresolved && terms.is_empty())
                    || terms
                        .iter()
                        .any(|term| term.to_lowercase() == value.to_lowercase())
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are treated alike"
    )]
    fn order_of(&self, target: JqlField, issue: &Issue, operand: &JqlOperand) -> Option<Ordering> {
        let value = match operand {
            JqlOperand::Value(value) => value.as_str(),
            JqlOperand::Function(function) => function.as_str(),
            JqlOperand::Empty => return None,
        };
        match target {
            JqlField::Key => {
                let other = self.model.visible_issue(self.viewer, value).ok()?;
                Some(issue.id.cmp(&other))
            }
            JqlField::Field(field) => match field.kind {
                FieldKind::Number => issue
                    .plain
                    .get(field.id)?
                    .as_f64()?
                    .partial_cmp(&value.parse().ok()?),
                FieldKind::Priority => {
                    // A more urgent priority is greater, but has a smaller id.
                    Some(Priority::by_either(value)?.id.cmp(issue.priority.id))
                }
                _ => Some(date_value(field, issue)?.cmp(&parse_date(value)?)),
            },
            JqlField::AllText | JqlField::StatusCategory => None,
        }
    }

    /// The values of a field of an issue, in every spelling (id, key, name); empty if unset.
    fn terms(&self, target: JqlField, issue: &Issue) -> Vec<String> {
        let project = &self.model.projects[issue.project];
        let named = |id: &str, name: &str| vec![id.to_owned(), name.to_owned()];
        let parts = |ids: &[u64], parts: &[crate::jira::model::ProjectPart]| {
            parts
                .iter()
                .filter(|part| ids.contains(&part.id))
                .flat_map(|part| named(&part.id.to_string(), &part.name))
                .collect()
        };
        let text = |text: &str| {
            if text.is_empty() {
                Vec::new()
            } else {
                vec![text.to_owned()]
            }
        };
        let comments = || issue.comments.iter().map(|comment| comment.body.clone());
        let field = match target {
            JqlField::Key => return named(&issue.id.to_string(), &issue.key),
            JqlField::StatusCategory => {
                return named(issue.status.category.key, issue.status.category.name);
            }
            JqlField::AllText => {
                let mut all = vec![issue.summary.clone()];
                all.extend(text(issue.text("description")));
                all.extend(text(issue.text("environment")));
                all.extend(comments());
                return all;
            }
            JqlField::Field(field) => field,
        };
        match field.id {
            "project" => {
                let mut terms = named(&project.key, &project.name);
                terms.push(project.id.to_string());
                terms
            }
            "issuetype" => named(issue.kind.id, issue.kind.name),
            "status" => named(issue.status.id, issue.status.name),
            "priority" => named(issue.priority.id, issue.priority.name),
            "resolution" => issue
                .resolution
                .map(|r| named(r.id, r.name))
                .unwrap_or_default(),
            "summary" => text(&issue.summary),
            "assignee" => issue.assignee.iter().cloned().collect(),
            "reporter" => issue.reporter.iter().cloned().collect(),
            "creator" => issue.creator.iter().cloned().collect(),
            "labels" => issue.labels.clone(),
            "components" => parts(&issue.components, &project.components),
            "versions" => parts(&issue.versions, &project.versions),
            "fixVersions" => parts(&issue.fix_versions, &project.versions),
            "comment" => comments().collect(),
            "attachment" => issue.attachments.iter().map(u64::to_string).collect(),
            "parent" => issue
                .parent
                .and_then(|id| self.model.issue(id))
                .map(|parent| named(&parent.id.to_string(), &parent.key))
                .unwrap_or_default(),
            "created" | "updated" | "resolutiondate" => date_value(field, issue)
                .map(|at| at.to_string())
                .into_iter()
                .collect(),
            other => match issue.plain.get(other) {
                Some(serde_json::Value::String(value)) => text(value),
                Some(serde_json::Value::Null) | None => Vec::new(),
                Some(value) => vec![value.to_string()],
            },
        }
    }

    fn compare(&self, target: &JqlField, a: &Issue, b: &Issue) -> Ordering {
        match target {
            JqlField::Key => a.id.cmp(&b.id),
            JqlField::Field(field)
                if date_value(field, a).is_some() || date_value(field, b).is_some() =>
            {
                date_value(field, a).cmp(&date_value(field, b))
            }
            JqlField::Field(field) if field.kind == FieldKind::Priority => {
                b.priority.id.cmp(a.priority.id)
            }
            JqlField::AllText | JqlField::StatusCategory | JqlField::Field(_) => self
                .terms(*target, a)
                .last()
                .cmp(&self.terms(*target, b).last()),
        }
    }
}

/// Whether one of the texts contains every word of the operand; a trailing `*` matches any ending.
fn contains_words(texts: &[String], operand: &JqlOperand) -> bool {
    let JqlOperand::Value(wanted) = operand else {
        return false;
    };
    let wanted = wanted.to_lowercase();
    let wanted: Vec<&str> = wanted
        .split(|c: char| !c.is_alphanumeric() && c != '*')
        .filter(|word| !word.is_empty())
        .collect();
    texts.iter().any(|text| {
        let text = text.to_lowercase();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
        wanted.iter().all(|wanted| match wanted.strip_suffix('*') {
            Some(start) => words.iter().any(|word| word.starts_with(start)),
            None => words.contains(wanted),
        })
    })
}

const FUNCTIONS: &[&str] = &["currentuser", "now", "startofday", "endofday"];
