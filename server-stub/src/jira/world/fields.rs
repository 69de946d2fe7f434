//! The fields of an issue: their ids, names, types, and on which screens they are.

/// A field.
pub(in crate::jira) struct Field {
    pub id: &'static str,
    pub name: &'static str,
    pub kind: Kind,
    /// On the create screen; on the edit screen too, but for issue type and project.
    pub on_create: bool,
    pub required: bool,
    /// Names by which JQL knows it.
    pub jql: &'static [&'static str],
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jira) enum Kind {
    Project,
    IssueType,
    Summary,
    /// Several lines of text.
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
    /// Set by Jira alone.
    Kept {
        schema: &'static str,
        items: Option<&'static str>,
    },
}

pub(in crate::jira) const FIELDS: &[Field] = &[
    required("project", "Project", Kind::Project, &["project"]),
    required(
        "issuetype",
        "Issue Type",
        Kind::IssueType,
        &["issuetype", "type"],
    ),
    required("summary", "Summary", Kind::Summary, &["summary"]),
    screen("description", "Description", Kind::Text, &["description"]),
    screen("environment", "Environment", Kind::Text, &["environment"]),
    screen("priority", "Priority", Kind::Priority, &["priority"]),
    screen("assignee", "Assignee", Kind::User, &["assignee"]),
    screen("reporter", "Reporter", Kind::User, &["reporter"]),
    screen("labels", "Labels", Kind::Labels, &["labels"]),
    screen(
        "components",
        "Component/s",
        Kind::Components,
        &["component"],
    ),
    screen(
        "versions",
        "Affects Version/s",
        Kind::Versions,
        &["affectedVersion"],
    ),
    screen(
        "fixVersions",
        "Fix Version/s",
        Kind::Versions,
        &["fixVersion"],
    ),
    screen("duedate", "Due Date", Kind::Date, &["due", "duedate"]),
    screen("parent", "Parent", Kind::Parent, &["parent"]),
    screen(
        REFERENCE,
        "Customer Reference",
        Kind::Line,
        &["cf[10100]", "Customer Reference"],
    ),
    screen(IMPACT, "Impact", Kind::Number, &["cf[10101]", "Impact"]),
    kept(
        "resolution",
        "Resolution",
        Kind::Resolution,
        &["resolution"],
    ),
    kept("status", "Status", plain("status"), &["status"]),
    kept("creator", "Creator", plain("user"), &["creator"]),
    kept(
        "created",
        "Created",
        plain("datetime"),
        &["created", "createdDate"],
    ),
    kept(
        "updated",
        "Updated",
        plain("datetime"),
        &["updated", "updatedDate"],
    ),
    kept(
        "resolutiondate",
        "Resolved",
        plain("datetime"),
        &["resolved", "resolutiondate"],
    ),
    kept("comment", "Comment", plain("comments-page"), &["comment"]),
    kept(
        "attachment",
        "Attachment",
        array("attachment"),
        &["attachments"],
    ),
    kept("issuelinks", "Linked Issues", array("issuelinks"), &[]),
    kept("subtasks", "Sub-Tasks", array("issuelinks"), &["subtasks"]),
];

impl Field {
    pub fn by_id(id: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.id == id)
    }

    pub fn is_custom(&self) -> bool {
        self.id.starts_with("customfield_")
    }

    /// The number of a custom field.
    pub fn custom_id(&self) -> Option<u64> {
        self.id.strip_prefix("customfield_")?.parse().ok()
    }

    pub fn on_edit(&self) -> bool {
        self.on_create && !matches!(self.kind, Kind::Project | Kind::Parent)
    }

    /// What an `update` may do to it.
    pub fn operations(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Labels | Kind::Components | Kind::Versions => &["add", "set", "remove"],
            _ => &["set"],
        }
    }

    /// `type` and `items` of its schema.
    pub fn schema(&self) -> (&'static str, Option<&'static str>) {
        match self.kind {
            Kind::Project => ("project", None),
            Kind::IssueType => ("issuetype", None),
            Kind::Summary | Kind::Text | Kind::Line => ("string", None),
            Kind::Number => ("number", None),
            Kind::Date => ("date", None),
            Kind::Priority => ("priority", None),
            Kind::User => ("user", None),
            Kind::Labels => ("array", Some("string")),
            Kind::Components => ("array", Some("component")),
            Kind::Versions => ("array", Some("version")),
            Kind::Resolution => ("resolution", None),
            Kind::Parent => ("issuelink", None),
            Kind::Kept { schema, items } => (schema, items),
        }
    }
}

const fn required(
    id: &'static str,
    name: &'static str,
    kind: Kind,
    jql: &'static [&'static str],
) -> Field {
    Field {
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
    kind: Kind,
    jql: &'static [&'static str],
) -> Field {
    Field {
        id,
        name,
        kind,
        on_create: true,
        required: false,
        jql,
    }
}

const fn kept(
    id: &'static str,
    name: &'static str,
    kind: Kind,
    jql: &'static [&'static str],
) -> Field {
    Field {
        id,
        name,
        kind,
        on_create: false,
        required: false,
        jql,
    }
}

const fn plain(schema: &'static str) -> Kind {
    Kind::Kept {
        schema,
        items: None,
    }
}

const fn array(items: &'static str) -> Kind {
    Kind::Kept {
        schema: "array",
        items: Some(items),
    }
}

/// A text field as customers add them.
const REFERENCE: &str = "customfield_10100";
/// A number field.
const IMPACT: &str = "customfield_10101";
