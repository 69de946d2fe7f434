//! The fixed lists of a new Jira, with its ids: issue types, statuses, transitions, priorities,
//! resolutions, link types.

/// An issue type, such as Bug.
pub(in crate::jira) struct IssueType {
    pub id: &'static str,
    pub name: &'static str,
    pub description: &'static str,
    pub subtask: bool,
}

/// A status of the workflow.
pub(in crate::jira) struct IssueStatus {
    pub id: &'static str,
    pub name: &'static str,
    pub category: &'static StatusCategory,
}

/// The category of a status: to do, in progress or done.
pub(in crate::jira) struct StatusCategory {
    pub id: u32,
    pub key: &'static str,
    pub name: &'static str,
    pub color: &'static str,
}

/// A transition of the workflow between statuses.
pub(in crate::jira) struct WorkflowTransition {
    pub id: &'static str,
    pub name: &'static str,
    pub from: &'static [&'static str],
    pub to: &'static str,
}

/// The priority of an issue.
pub(in crate::jira) struct Priority {
    pub id: &'static str,
    pub name: &'static str,
    pub color: &'static str,
}

/// The resolution of a completed issue.
pub(in crate::jira) struct Resolution {
    pub id: &'static str,
    pub name: &'static str,
}

/// A type of link between two issues.
pub(in crate::jira) struct IssueLinkType {
    pub id: &'static str,
    pub name: &'static str,
    pub inward: &'static str,
    pub outward: &'static str,
}

pub(in crate::jira) const ISSUE_TYPES: &[IssueType] = &[
    issue_type("10000", "Epic", "A big user story.", false),
    issue_type("10001", "Story", "A user story.", false),
    issue_type("10002", "Task", "A task that needs to be done.", false),
    issue_type("10003", "Sub-task", "The sub-task of the issue", true),
    issue_type(
        "10004",
        "Bug",
        "A problem which impairs the product.",
        false,
    ),
];

pub(in crate::jira) const STATUSES: &[IssueStatus] = &[
    IssueStatus {
        id: TO_DO,
        name: "To Do",
        category: &NEW,
    },
    IssueStatus {
        id: IN_PROGRESS,
        name: "In Progress",
        category: &INDETERMINATE,
    },
    IssueStatus {
        id: DONE,
        name: "Done",
        category: &COMPLETE,
    },
];

pub(in crate::jira) const TRANSITIONS: &[WorkflowTransition] = &[
    WorkflowTransition {
        id: "11",
        name: "Start Progress",
        from: &[TO_DO],
        to: IN_PROGRESS,
    },
    WorkflowTransition {
        id: "21",
        name: "Stop Progress",
        from: &[IN_PROGRESS],
        to: TO_DO,
    },
    WorkflowTransition {
        id: "31",
        name: "Done",
        from: &[TO_DO, IN_PROGRESS],
        to: DONE,
    },
    WorkflowTransition {
        id: "41",
        name: "Reopen",
        from: &[DONE],
        to: TO_DO,
    },
];

pub(in crate::jira) const PRIORITIES: &[Priority] = &[
    Priority {
        id: "1",
        name: "Highest",
        color: "#d04437",
    },
    Priority {
        id: "2",
        name: "High",
        color: "#f15C75",
    },
    Priority {
        id: "3",
        name: "Medium",
        color: "#f79232",
    },
    Priority {
        id: "4",
        name: "Low",
        color: "#707070",
    },
    Priority {
        id: "5",
        name: "Lowest",
        color: "#999999",
    },
];

pub(in crate::jira) const RESOLUTIONS: &[Resolution] = &[
    Resolution {
        id: "10000",
        name: "Done",
    },
    Resolution {
        id: "10001",
        name: "Won't Do",
    },
    Resolution {
        id: "10002",
        name: "Duplicate",
    },
    Resolution {
        id: "10003",
        name: "Cannot Reproduce",
    },
];

pub(in crate::jira) const LINK_TYPES: &[IssueLinkType] = &[
    IssueLinkType {
        id: "10000",
        name: "Blocks",
        inward: "is blocked by",
        outward: "blocks",
    },
    IssueLinkType {
        id: "10001",
        name: "Cloners",
        inward: "is cloned by",
        outward: "clones",
    },
    IssueLinkType {
        id: "10002",
        name: "Duplicate",
        inward: "is duplicated by",
        outward: "duplicates",
    },
    IssueLinkType {
        id: "10003",
        name: "Relates",
        inward: "relates to",
        outward: "relates to",
    },
];

/// An item with an id and a name, either of which identifies it in JSON.
pub(in crate::jira) trait CatalogueItem: Sized + 'static {
    const ALL: &'static [Self];
    fn id(&self) -> &'static str;
    fn name(&self) -> &'static str;

    /// The item with exactly this id.
    fn by_id(id: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|one| one.id() == id)
    }

    /// The item with this name, ignoring case.
    fn by_name(name: &str) -> Option<&'static Self> {
        Self::ALL
            .iter()
            .find(|one| one.name().eq_ignore_ascii_case(name))
    }

    /// The item with this name, else with this id, as in JQL.
    fn by_either(text: &str) -> Option<&'static Self> {
        Self::by_name(text).or_else(|| Self::by_id(text))
    }
}

macro_rules! named {
    ($($kind:ty => $all:ident),*) => {$(
        impl CatalogueItem for $kind {
            const ALL: &'static [Self] = $all;
            fn id(&self) -> &'static str {
                self.id
            }
            fn name(&self) -> &'static str {
                self.name
            }
        }
    )*};
}
named!(
    IssueType => ISSUE_TYPES,
    IssueStatus => STATUSES,
    Priority => PRIORITIES,
    Resolution => RESOLUTIONS,
    IssueLinkType => LINK_TYPES
);

impl WorkflowTransition {
    /// The transitions that start at `status`.
    pub(in crate::jira) fn leaving(status: &IssueStatus) -> impl Iterator<Item = &'static Self> {
        TRANSITIONS
            .iter()
            .filter(|one| one.from.contains(&status.id))
    }

    /// The status that the transition leads to.
    pub(in crate::jira) fn target(&self) -> &'static IssueStatus {
        IssueStatus::by_id(self.to).unwrap_or(&STATUSES[0])
    }
}

const fn issue_type(
    id: &'static str,
    name: &'static str,
    description: &'static str,
    subtask: bool,
) -> IssueType {
    IssueType {
        id,
        name,
        description,
        subtask,
    }
}

const TO_DO: &str = "10000";
const IN_PROGRESS: &str = "3";
const DONE: &str = "10001";
const NEW: StatusCategory = StatusCategory {
    id: 2,
    key: "new",
    name: "To Do",
    color: "blue-gray",
};
const INDETERMINATE: StatusCategory = StatusCategory {
    id: 4,
    key: "indeterminate",
    name: "In Progress",
    color: "yellow",
};
const COMPLETE: StatusCategory = StatusCategory {
    id: 3,
    key: "done",
    name: "Done",
    color: "green",
};
