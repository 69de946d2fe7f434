//! The fields of an issue: ids, names, types, and the screens that show them.

/// A system or custom field of issues.
pub(in crate::jira) struct FieldDefinition {
    pub id: &'static str,
    pub name: &'static str,
    pub kind: FieldKind,
    /// Whether it is on the create screen; see also [`FieldDefinition::on_edit`].
    pub on_create: bool,
    pub required: bool,
    /// Its names in JQL.
    pub jql: &'static [&'static str],
}

/// The type of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jira) enum FieldKind {
    Project,
    IssueType,
    Summary,
    /// Text of several lines.
    Text,
    /// A custom field of one line.
    Line,
    /// A custom field with a number.
    Number,
    Date,
    Priority,
    User,
    Labels,
    Components,
    Versions,
    Resolution,
    Parent,
    /// Set only by Jira.
    Stored {
        schema: &'static str,
        items: Option<&'static str>,
    },
}

pub(in crate::jira) const FIELDS: &[FieldDefinition] = &[
    required("project", "Project", FieldKind::Project, &["project"]),
    required(
        "issuetype",
        "Issue Type",
        FieldKind::IssueType,
        &["issuetype", "type"],
    ),
    required("summary", "Summary", FieldKind::Summary, &["summary"]),
    screen(
        "description",
        "Description",
        FieldKind::Text,
        &["description"],
    ),
    screen(
        "environment",
        "Environment",
        FieldKind::Text,
        &["environment"],
    ),
    screen("priority", "Priority", FieldKind::Priority, &["priority"]),
    screen("assignee", "Assignee", FieldKind::User, &["assignee"]),
    screen("reporter", "Reporter", FieldKind::User, &["reporter"]),
    screen("labels", "Labels", FieldKind::Labels, &["labels"]),
    screen(
        "components",
        "Component/s",
        FieldKind::Components,
        &["component"],
    ),
    screen(
        "versions",
        "Affects Version/s",
        FieldKind::Versions,
        &["affectedVersion"],
    ),
    screen(
        "fixVersions",
        "Fix Version/s",
        FieldKind::Versions,
        &["fixVersion"],
    ),
    screen("duedate", "Due Date", FieldKind::Date, &["due", "duedate"]),
    screen("parent", "Parent", FieldKind::Parent, &["parent"]),
    screen(
        REFERENCE,
        "Customer Reference",
        FieldKind::Line,
        &["cf[10100]", "Customer Reference"],
    ),
    screen(
        IMPACT,
        "Impact",
        FieldKind::Number,
        &["cf[10101]", "Impact"],
    ),
    stored_field(
        "resolution",
        "Resolution",
        FieldKind::Resolution,
        &["resolution"],
    ),
    stored_field("status", "Status", plain("status"), &["status"]),
    stored_field("creator", "Creator", plain("user"), &["creator"]),
    stored_field(
        "created",
        "Created",
        plain("datetime"),
        &["created", "createdDate"],
    ),
    stored_field(
        "updated",
        "Updated",
        plain("datetime"),
        &["updated", "updatedDate"],
    ),
    stored_field(
        "resolutiondate",
        "Resolved",
        plain("datetime"),
        &["resolved", "resolutiondate"],
    ),
    stored_field("comment", "Comment", plain("comments-page"), &["comment"]),
    stored_field(
        "attachment",
        "Attachment",
        array("attachment"),
        &["attachments"],
    ),
    stored_field("issuelinks", "Linked Issues", array("issuelinks"), &[]),
    stored_field("subtasks", "Sub-Tasks", array("issuelinks"), &["subtasks"]),
];

impl FieldDefinition {
    pub(crate) fn by_id(id: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.id == id)
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.id.starts_with("customfield_")
    }

    /// The number of a custom field.
    pub(crate) fn custom_id(&self) -> Option<u64> {
        self.id.strip_prefix("customfield_")?.parse().ok()
    }

    pub(crate) fn on_edit(&self) -> bool {
        self.on_create && !matches!(self.kind, FieldKind::Project | FieldKind::Parent)
    }

    /// The operations of `update` on this field.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are treated alike"
    )]
    pub(crate) fn operations(&self) -> &'static [&'static str] {
        match self.kind {
            FieldKind::Labels | FieldKind::Components | FieldKind::Versions => {
                &["add", "set", "remove"]
            }
            _ => &["set"],
        }
    }

    /// `type` and `items` of the field's schema.
    pub(crate) fn schema(&self) -> (&'static str, Option<&'static str>) {
        match self.kind {
            FieldKind::Project => ("project", None),
            FieldKind::IssueType => ("issuetype", None),
            FieldKind::Summary | FieldKind::Text | FieldKind::Line => ("string", None),
            FieldKind::Number => ("number", None),
            FieldKind::Date => ("date", None),
            FieldKind::Priority => ("priority", None),
            FieldKind::User => ("user", None),
            FieldKind::Labels => ("array", Some("string")),
            FieldKind::Components => ("array", Some("component")),
            FieldKind::Versions => ("array", Some("version")),
            FieldKind::Resolution => ("resolution", None),
            FieldKind::Parent => ("issuelink", None),
            FieldKind::Stored { schema, items } => (schema, items),
        }
    }
}

const fn required(
    id: &'static str,
    name: &'static str,
    kind: FieldKind,
    jql: &'static [&'static str],
) -> FieldDefinition {
    FieldDefinition {
        id,
        name,
        kind,
        on_create: true,
        required: true,
        jql,
    }
}

const fn screen(
    id: &'static str,
    name: &'static str,
    kind: FieldKind,
    jql: &'static [&'static str],
) -> FieldDefinition {
    FieldDefinition {
        id,
        name,
        kind,
        on_create: true,
        required: false,
        jql,
    }
}

const fn stored_field(
    id: &'static str,
    name: &'static str,
    kind: FieldKind,
    jql: &'static [&'static str],
) -> FieldDefinition {
    FieldDefinition {
        id,
        name,
        kind,
        on_create: false,
        required: false,
        jql,
    }
}

const fn plain(schema: &'static str) -> FieldKind {
    FieldKind::Stored {
        schema,
        items: None,
    }
}

const fn array(items: &'static str) -> FieldKind {
    FieldKind::Stored {
        schema: "array",
        items: Some(items),
    }
}

/// A custom text field.
const REFERENCE: &str = "customfield_10100";
/// A custom number field.
const IMPACT: &str = "customfield_10101";
