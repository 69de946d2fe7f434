//! Named sets of rules. A path added here opens it at every customer who uses the preset.

/// A named set of allow rules.
#[derive(Debug)]
pub struct Preset {
    /// The name used in `presets = […]`.
    pub name: &'static str,
    /// What it allows, in one line.
    pub summary: &'static str,
    groups: &'static [&'static [&'static str]],
}

impl Preset {
    /// Its rules, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = &'static str> {
        self.groups.iter().flat_map(|group| group.iter().copied())
    }
}

/// A named set of allow rules for another tool than Jira, as its profile states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePreset {
    /// The name used in `presets = […]`.
    pub name: String,
    /// What it allows, in one line.
    pub summary: String,
    /// Its rules, in the order in which they are tried.
    pub rules: Vec<String>,
}

/// The presets that one policy may name.
pub(super) enum PresetCatalog<'a> {
    Jira,
    Service(&'a [ServicePreset]),
}

impl<'a> PresetCatalog<'a> {
    pub(super) fn of(service: Option<&'a [ServicePreset]>) -> Self {
        service.map_or(Self::Jira, Self::Service)
    }

    /// Names and rules, in the order of the documentation.
    pub(super) fn all(&self) -> Vec<(&'a str, Vec<&'a str>)> {
        match self {
            Self::Jira => presets()
                .iter()
                .map(|preset| (preset.name, preset.rules().collect()))
                .collect(),
            Self::Service(presets) => presets
                .iter()
                .map(|preset| {
                    let rules = preset.rules.iter().map(String::as_str);
                    (preset.name.as_str(), rules.collect())
                })
                .collect(),
        }
    }
}

/// Every preset for Jira there is.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

static PRESETS: [Preset; 12] = [
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
        name: "two-way-sync",
        summary: "in addition to ticketing: watchers, votes, worklogs, properties, remote links and user search, for tools that keep two trackers in sync",
        groups: &[SYNC],
    },
    Preset {
        name: "ticketing-cloud",
        summary: "ticketing on Jira Cloud's /rest/api/3",
        groups: &[CLOUD_READING, CLOUD_WRITING],
    },
    Preset {
        name: "two-way-sync-cloud",
        summary: "two-way-sync on Jira Cloud's /rest/api/3, in addition to ticketing-cloud",
        groups: &[CLOUD_SYNC],
    },
    Preset {
        name: "oauth-dance",
        summary: "only what a vendor with its own OAuth needs; browser steps stay in your network",
        groups: &[&[
            "POST /rest/oauth2/(latest|1.0)/(token|revoke)",
            "POST /plugins/servlet/oauth/(request-token|access-token)",
        ]],
    },
    Preset {
        name: "webhooks",
        summary: "register and remove webhooks; Jira then sends requests to the given addresses",
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
        name: "service-management",
        summary: "read, create, comment and transition requests of Jira Service Management, and attach files to them",
        groups: &[SERVICE_MANAGEMENT],
    },
    Preset {
        name: "agile",
        summary: "read boards, sprints and backlogs, and move issues into sprints and the backlog",
        groups: &[AGILE],
    },
    Preset {
        name: "bulk",
        summary: "create many issues in one request",
        groups: &[&["POST /rest/api/(2|latest)/issue/bulk"]],
    },
    Preset {
        name: "delete",
        summary: "permanently delete issues, comments, links and attachments",
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
    "GET /rest/api/(2|latest)/project/{project}/(components|versions|statuses|component|version)",
    "GET /rest/api/(2|latest)/issuetype",
    // One of a list that is given above reads nothing more than the list.
    "GET /rest/api/(2|latest)/(priority|status|resolution|issueLinkType|issuetype|component|version)/{number}",
    "GET /rest/api/(2|latest)/issue/createmeta",
    "GET /rest/api/(2|latest)/issue/createmeta/{project}/issuetypes",
    "GET /rest/api/(2|latest)/issue/createmeta/{project}/issuetypes/{number}",
    "GET /rest/api/(2|latest)/user/assignable/search",
    "GET /rest/api/(2|latest)/user",
    // POST as well: JQL can be longer than a URL may be.
    "GET,POST /rest/api/(2|latest)/search",
    // Jira Cloud has only this one. Clients ask Data Center for it too, and take `search` after its 404.
    "GET,POST /rest/api/(2|latest)/search/jql",
    "GET /rest/api/(2|latest)/issue/{issue}",
    "GET /rest/api/(2|latest)/issue/{issue}/editmeta",
    "GET /rest/api/(2|latest)/issue/{issue}/(transitions|comment|remotelink)",
    "GET /rest/api/(2|latest)/issue/{issue}/comment/{number}",
    "GET /rest/api/(2|latest)/attachment/meta",
    "GET /rest/api/(2|latest)/attachment/{number}",
    // Jira Cloud has the content here, Data Center at the next one.
    "GET /rest/api/(2|latest)/attachment/content/{number}",
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

const SYNC: &[&str] = &[
    "GET /rest/api/(2|latest)/issue/{issue}/(watchers|votes|worklog|properties)",
    "POST,DELETE /rest/api/(2|latest)/issue/{issue}/(watchers|votes)",
    "POST /rest/api/(2|latest)/issue/{issue}/worklog",
    "GET,PUT /rest/api/(2|latest)/issue/{issue}/worklog/{number}",
    "GET,PUT /rest/api/(2|latest)/issue/{issue}/properties/*",
    "GET /rest/api/(2|latest)/comment/{number}/properties",
    "GET,PUT /rest/api/(2|latest)/comment/{number}/properties/*",
    "GET,PUT /rest/api/(2|latest)/issue/{issue}/remotelink/{number}",
    "GET /rest/api/(2|latest)/issueLink/{number}",
    "GET /rest/api/(2|latest)/worklog/(updated|deleted)",
    "POST /rest/api/(2|latest)/worklog/list",
    "GET /rest/api/(2|latest)/user/(search|picker)",
    "GET /rest/api/(2|latest)/user/assignable/multiProjectSearch",
    "GET /rest/api/(2|latest)/user/viewissue/search",
    "GET /rest/api/(2|latest)/(customFieldOption|securitylevel)/{number}",
    "GET /rest/api/(2|latest)/project/type",
    "GET /rest/api/(2|latest)/projectCategory",
    "GET /rest/api/(2|latest)/attachment/thumbnail/{number}",
    "GET /secure/thumbnail/{number}/*",
];

const CLOUD_READING: &[&str] = &[
    "GET /rest/api/3/(serverInfo|myself|mypermissions)",
    "GET /rest/api/3/(field|priority|status|resolution|issueLinkType)",
    "GET /rest/api/3/project",
    "GET /rest/api/3/project/search",
    "GET /rest/api/3/project/{project}",
    "GET /rest/api/3/project/{project}/(components|versions|statuses|component|version)",
    "GET /rest/api/3/issuetype",
    "GET /rest/api/3/(priority|status|resolution|issueLinkType|issuetype|component|version)/{number}",
    "GET /rest/api/3/issue/createmeta",
    "GET /rest/api/3/issue/createmeta/{project}/issuetypes",
    "GET /rest/api/3/issue/createmeta/{project}/issuetypes/{number}",
    "GET /rest/api/3/user/assignable/search",
    "GET /rest/api/3/user",
    // `search` is gone; its 410 tells clients where to go.
    "GET,POST /rest/api/3/search",
    "GET,POST /rest/api/3/search/jql",
    "POST /rest/api/3/search/approximate-count",
    "GET /rest/api/3/issue/{issue}",
    "GET /rest/api/3/issue/{issue}/editmeta",
    "GET /rest/api/3/issue/{issue}/(transitions|comment|remotelink)",
    "GET /rest/api/3/issue/{issue}/comment/{number}",
    "GET /rest/api/3/attachment/meta",
    "GET /rest/api/3/attachment/{number}",
    "GET /rest/api/3/attachment/content/{number}",
];

const CLOUD_WRITING: &[&str] = &[
    "POST /rest/api/3/(issue|issueLink)",
    "PUT /rest/api/3/issue/{issue}",
    "POST /rest/api/3/issue/{issue}/(transitions|comment|remotelink)",
    "PUT /rest/api/3/issue/{issue}/comment/{number}",
    "PUT /rest/api/3/issue/{issue}/assignee",
    "POST /rest/api/3/issue/{issue}/attachments",
];

const CLOUD_SYNC: &[&str] = &[
    "GET /rest/api/3/issue/{issue}/(watchers|votes|worklog|properties|changelog)",
    "POST,DELETE /rest/api/3/issue/{issue}/(watchers|votes)",
    "POST /rest/api/3/issue/{issue}/worklog",
    "GET,PUT /rest/api/3/issue/{issue}/worklog/{number}",
    "GET,PUT /rest/api/3/issue/{issue}/properties/*",
    "GET /rest/api/3/comment/{number}/properties",
    "GET,PUT /rest/api/3/comment/{number}/properties/*",
    "GET,PUT /rest/api/3/issue/{issue}/remotelink/{number}",
    "GET /rest/api/3/issueLink/{number}",
    "GET /rest/api/3/worklog/(updated|deleted)",
    "POST /rest/api/3/worklog/list",
    "GET /rest/api/3/user/(search|picker|bulk)",
    "GET /rest/api/3/user/assignable/multiProjectSearch",
    "GET /rest/api/3/user/viewissue/search",
    "GET /rest/api/3/(customFieldOption|securitylevel)/{number}",
    "GET /rest/api/3/project/type",
    "GET /rest/api/3/projectCategory",
    "GET /rest/api/3/attachment/thumbnail/{number}",
];

/// The paths are the same in Data Center and Cloud.
const SERVICE_MANAGEMENT: &[&str] = &[
    "GET /rest/servicedeskapi/servicedesk",
    "GET /rest/servicedeskapi/servicedesk/{number}",
    "GET /rest/servicedeskapi/servicedesk/{number}/(requesttype|queue)",
    "GET /rest/servicedeskapi/servicedesk/{number}/requesttype/{number}",
    "GET /rest/servicedeskapi/servicedesk/{number}/requesttype/{number}/field",
    "GET /rest/servicedeskapi/servicedesk/{number}/queue/{number}/issue",
    "POST /rest/servicedeskapi/servicedesk/{number}/attachTemporaryFile",
    "GET,POST /rest/servicedeskapi/request",
    "GET /rest/servicedeskapi/request/{issue}",
    "GET /rest/servicedeskapi/request/{issue}/(status|sla|participant)",
    "GET,POST /rest/servicedeskapi/request/{issue}/(comment|transition|attachment)",
    "GET /rest/servicedeskapi/request/{issue}/comment/{number}",
];

const AGILE: &[&str] = &[
    "GET /rest/agile/(1.0|latest)/board",
    "GET /rest/agile/(1.0|latest)/board/{number}",
    "GET /rest/agile/(1.0|latest)/board/{number}/(backlog|configuration|issue|sprint)",
    "GET /rest/agile/(1.0|latest)/board/{number}/sprint/{number}/issue",
    "GET /rest/agile/(1.0|latest)/sprint/{number}",
    "GET,POST /rest/agile/(1.0|latest)/sprint/{number}/issue",
    "POST /rest/agile/(1.0|latest)/backlog/issue",
    "GET /rest/agile/(1.0|latest)/issue/{issue}",
    "PUT /rest/agile/(1.0|latest)/issue/rank",
];
