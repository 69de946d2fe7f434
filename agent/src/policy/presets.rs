//! The rules that have a name. Adding a path here opens it at every customer who uses the preset.

/// A named set of allow rules.
#[derive(Debug)]
pub struct Preset {
    /// As `presets = […]` names it.
    pub name: &'static str,
    /// What it is for, one line.
    pub summary: &'static str,
    groups: &'static [&'static [&'static str]],
}

impl Preset {
    /// Its rules, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = &'static str> {
        self.groups.iter().flat_map(|group| group.iter().copied())
    }
}

/// Every preset there is.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

static PRESETS: [Preset; 7] = [
    Preset {
        name: "ticketing",
        summary: "create, update, comment, transition, search and attach; nothing else",
        groups: &[READING, WRITING],
    },
    Preset {
        name: "read-only",
        summary: "the reading half of ticketing",
        groups: &[READING],
    },
    Preset {
        name: "oauth-dance",
        summary: "only what a vendor that runs its own OAuth needs; browser steps stay inside",
        groups: &[&[
            "POST /rest/oauth2/(latest|1.0)/(token|revoke)",
            "POST /plugins/servlet/oauth/(request-token|access-token)",
        ]],
    },
    Preset {
        name: "webhooks",
        summary: "register and remove webhooks; Jira then calls out to the addresses given",
        groups: &[&[
            "GET,POST /rest/webhooks/(1.0|latest)/webhook",
            "GET,PUT,DELETE /rest/webhooks/(1.0|latest)/webhook/{number}",
            "GET,POST /rest/jira-webhook/(1.0|latest)/webhooks",
            "GET,PUT,DELETE /rest/jira-webhook/(1.0|latest)/webhooks/{number}",
        ]],
    },
    Preset {
        name: "epics",
        summary: "read and edit epics, and move issues into and out of them",
        groups: &[&[
            "GET,POST /rest/agile/(1.0|latest)/epic/{issue}",
            "GET,POST /rest/agile/(1.0|latest)/epic/{issue}/issue",
            "GET,POST /rest/agile/(1.0|latest)/epic/none/issue",
            "PUT /rest/agile/(1.0|latest)/epic/{issue}/rank",
            "GET /rest/agile/(1.0|latest)/board",
            "GET /rest/agile/(1.0|latest)/board/{number}/epic",
        ]],
    },
    Preset {
        name: "bulk",
        summary: "create many issues in one request",
        groups: &[&["POST /rest/api/(2|latest)/issue/bulk"]],
    },
    Preset {
        name: "delete",
        summary: "delete issues, comments, links and attachments, for good",
        groups: &[&[
            "DELETE /rest/api/(2|latest)/issue/{issue}",
            "DELETE /rest/api/(2|latest)/issue/{issue}/comment/{number}",
            "DELETE /rest/api/(2|latest)/issue/{issue}/remotelink",
            "DELETE /rest/api/(2|latest)/issue/{issue}/remotelink/{number}",
            "DELETE /rest/api/(2|latest)/issueLink/{number}",
            "DELETE /rest/api/(2|latest)/attachment/{number}",
        ]],
    },
];

const READING: &[&str] = &[
    "GET /rest/api/(2|latest)/(serverInfo|myself|mypermissions)",
    "GET /rest/api/(2|latest)/(field|priority|status|resolution|issueLinkType)",
    "GET /rest/api/(2|latest)/project",
    "GET /rest/api/(2|latest)/project/{project}",
    "GET /rest/api/(2|latest)/project/{project}/(components|versions|statuses)",
    "GET /rest/api/(2|latest)/issuetype",
    "GET /rest/api/(2|latest)/issuetype/{number}",
    "GET /rest/api/(2|latest)/issue/createmeta",
    "GET /rest/api/(2|latest)/issue/createmeta/{project}/issuetypes",
    "GET /rest/api/(2|latest)/issue/createmeta/{project}/issuetypes/{number}",
    "GET /rest/api/(2|latest)/user/assignable/search",
    "GET /rest/api/(2|latest)/user",
    // POST as well: JQL can be longer than a URL may be.
    "GET,POST /rest/api/(2|latest)/search",
    "GET /rest/api/(2|latest)/issue/{issue}",
    "GET /rest/api/(2|latest)/issue/{issue}/editmeta",
    "GET /rest/api/(2|latest)/issue/{issue}/(transitions|comment|remotelink)",
    "GET /rest/api/(2|latest)/issue/{issue}/comment/{number}",
    "GET /rest/api/(2|latest)/attachment/meta",
    "GET /rest/api/(2|latest)/attachment/{number}",
    "GET /secure/attachment/{number}/*",
    "GET /status",
];

const WRITING: &[&str] = &[
    "POST /rest/api/(2|latest)/(issue|issueLink)",
    "PUT /rest/api/(2|latest)/issue/{issue}",
    "POST /rest/api/(2|latest)/issue/{issue}/(transitions|comment|remotelink)",
    "PUT /rest/api/(2|latest)/issue/{issue}/comment/{number}",
    "PUT /rest/api/(2|latest)/issue/{issue}/assignee",
    "POST /rest/api/(2|latest)/issue/{issue}/attachments",
];
