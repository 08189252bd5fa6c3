//! The commands as data: names, arguments, flags, help. The parser, the help, the completion and a test use it.

use crate::flags::{Flag, Kind};

/// The server that a command calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The BBS. Each request may have a time limit.
    Bbs,
    /// An event stream of the BBS, which has no time limit.
    BbsEvents,
    Locket,
    /// No server (`help`).
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    ActualLrpGroups,
    ActualLrpGroupsForGuid,
    ActualLrps,
    CancelTask,
    Cell,
    CellState,
    CellStates,
    Cells,
    ClaimLock,
    ClaimPresence,
    CreateDesiredLrp,
    CreateTask,
    DeleteDesiredLrp,
    DeleteTask,
    DesiredLrp,
    DesiredLrpSchedulingInfos,
    DesiredLrps,
    Domains,
    Help,
    Locks,
    LrpEvents,
    Presences,
    ReleaseLock,
    RetireActualLrp,
    SetDomain,
    Task,
    TaskEvents,
    Tasks,
    UpdateDesiredLrp,
}

#[derive(Debug)]
pub(crate) struct Verb {
    pub(crate) call: Call,
    pub(crate) name: &'static str,
    /// The arguments in the usage.
    pub(crate) args: &'static str,
    /// One line for the list of commands.
    pub(crate) about: &'static str,
    /// The beginning of the command's own help.
    pub(crate) long: &'static str,
    pub(crate) server: Server,
    pub(crate) own_flags: &'static [Flag],
    /// The replacement of a deprecated command. A deprecated command works and is not listed.
    pub(crate) deprecated: Option<&'static str>,
}

const fn verb(
    call: Call,
    [name, args]: [&'static str; 2],
    [about, long]: [&'static str; 2],
    server: Server,
    own_flags: &'static [Flag],
) -> Verb {
    Verb {
        call,
        name,
        args,
        about,
        long,
        server,
        own_flags,
        deprecated: None,
    }
}

impl Verb {
    const fn deprecated(self, instead: &'static str) -> Self {
        Self {
            deprecated: Some(instead),
            ..self
        }
    }

    /// Returns all flags except `--help`, in the order of their names.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        let server: &[&[Flag]] = match self.server {
            Server::Bbs => &[TLS, BBS_URL, TIMEOUT],
            Server::BbsEvents => &[TLS, BBS_URL],
            Server::Locket => &[TLS, LOCKET],
            Server::None => &[],
        };
        let mut flags = server.concat();
        flags.extend_from_slice(self.own_flags);
        flags.sort_by_key(|flag| flag.name.to_owned());
        flags
    }
}

const TLS: &[Flag] = &[
    Flag::new(
        "caCertFile",
        None,
        Kind::Text,
        "file of the CA that the servers' certificates chain to [environment variable equivalent: CA_CERT_FILE]",
    ),
    Flag::new(
        "clientCertFile",
        None,
        Kind::Text,
        "file of the client's certificate [environment variable equivalent: CLIENT_CERT_FILE]",
    ),
    Flag::new(
        "clientKeyFile",
        None,
        Kind::Text,
        "file of the client's private key [environment variable equivalent: CLIENT_KEY_FILE]",
    ),
    Flag::new(
        "skipCertVerify",
        None,
        Kind::Switch,
        "accept any certificate of a server [environment variable equivalent: SKIP_CERT_VERIFY]",
    ),
];
const BBS_URL: &[Flag] = &[Flag::new(
    "bbsURL",
    None,
    Kind::Text,
    "URL of the BBS to call [environment variable equivalent: BBS_URL]",
)];
const LOCKET: &[Flag] = &[Flag::new(
    "locketAPILocation",
    None,
    Kind::Text,
    "host:port of the locket to call [environment variable equivalent: LOCKET_API_LOCATION]",
)];
const TIMEOUT: &[Flag] = &[Flag::new(
    "timeout",
    None,
    Kind::Int,
    "longest time for a request to the BBS, in seconds; 0 is no limit [environment variable equivalent: CFDOT_TIMEOUT]",
)];
const DOMAIN: Flag = Flag::new("domain", Some('d'), Kind::Text, "only those of this domain");
const CELL: Flag = Flag::new("cell-id", Some('c'), Kind::Text, "only those on this cell");
const KEY: Flag = Flag::new("key", Some('k'), Kind::Text, "its key");
const OWNER: Flag = Flag::new("owner", Some('o'), Kind::Text, "its owner");
const VALUE: Flag = Flag::new("value", Some('v'), Kind::Text, "the value to keep with it");
const LOCK_TTL: Flag = Flag::new("ttl", Some('t'), Kind::Int, "how long it lasts, in seconds");

/// The commands in the order of their names.
pub(crate) const VERBS: &[Verb] = &[
    verb(
        Call::ActualLrpGroups,
        ["actual-lrp-groups", ""],
        [
            r#"[DEPRECATED] List groups of actual LRPs; use "actual-lrps""#,
            "Lists groups of actual LRPs: an instance with the one that is evacuating",
        ],
        Server::Bbs,
        &[CELL, DOMAIN],
    )
    .deprecated(r#"use "actual-lrps" instead."#),
    verb(
        Call::ActualLrpGroupsForGuid,
        ["actual-lrp-groups-for-guid", "PROCESS_GUID"],
        [
            r#"[DEPRECATED] List groups of actual LRPs of a process guid; use "actual-lrps" with "--process-guid""#,
            "Lists groups of actual LRPs of one process guid",
        ],
        Server::Bbs,
        &[Flag::new("index", Some('i'), Kind::Text, "only the instance with this index")],
    )
    .deprecated(r#"use "actual-lrps" with the "--process-guid" flag instead."#),
    verb(
        Call::ActualLrps,
        ["actual-lrps", ""],
        [
            "List actual LRPs",
            "Lists actual LRPs: where instances run, at which addresses and ports",
        ],
        Server::Bbs,
        &[
            CELL,
            DOMAIN,
            Flag::new("index", Some('i'), Kind::Int32, "only the instance with this index"),
            Flag::new("process-guid", Some('p'), Kind::Text, "only those of this desired LRP"),
        ],
    ),
    verb(
        Call::CancelTask,
        ["cancel-task", "TASK_GUID"],
        ["Cancel a task", "Cancels a task: its cell stops it, and it completes as failed"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::Cell,
        ["cell", "CELL_ID"],
        ["Show one cell's presence", "Shows the presence of one cell"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::CellState,
        ["cell-state", "CELL_ID"],
        ["Show one cell's state", "Shows what a cell itself reports that it runs and has left"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::CellStates,
        ["cell-states", ""],
        ["Show the states of all cells", "Shows what each cell itself reports that it runs and has left"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::Cells,
        ["cells", ""],
        ["List the cells that are present", "Lists the presences of all cells"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::ClaimLock,
        ["claim-lock", ""],
        ["Claim a lock in locket", "Claims the lock with a key for an owner, with a value if one is given"],
        Server::Locket,
        &[KEY, OWNER, VALUE, LOCK_TTL],
    ),
    verb(
        Call::ClaimPresence,
        ["claim-presence", ""],
        ["Claim a presence in locket", "Claims the presence with a key for an owner, with a value if one is given"],
        Server::Locket,
        &[KEY, OWNER, VALUE, LOCK_TTL],
    ),
    verb(
        Call::CreateDesiredLrp,
        ["create-desired-lrp", "(SPEC|@FILE)"],
        ["Create a desired LRP", r#"Creates a desired LRP from JSON, or from a file of it: '{"process_guid":"guid"}', @/path/to/spec.json"#],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::CreateTask,
        ["create-task", "(SPEC|@FILE)"],
        ["Create a task", r#"Creates a task from JSON, or from a file of it: '{"task_guid":"guid"}', @/path/to/spec.json"#],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::DeleteDesiredLrp,
        ["delete-desired-lrp", "PROCESS_GUID"],
        ["Delete a desired LRP", "Deletes a desired LRP; its instances stop"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::DeleteTask,
        ["delete-task", "TASK_GUID"],
        ["Delete a task", "Deletes a task that is completed"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::DesiredLrp,
        ["desired-lrp", "PROCESS_GUID"],
        ["Show one desired LRP", "Shows the desired LRP with a process guid"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::DesiredLrpSchedulingInfos,
        ["desired-lrp-scheduling-infos", ""],
        ["List what placement knows of desired LRPs", "Lists desired LRPs, with what placement needs to know only"],
        Server::Bbs,
        &[DOMAIN],
    ),
    verb(
        Call::DesiredLrps,
        ["desired-lrps", ""],
        ["List desired LRPs", "Lists desired LRPs: what should run"],
        Server::Bbs,
        &[DOMAIN],
    ),
    verb(
        Call::Domains,
        ["domains", ""],
        ["List domains", "Lists the domains that are fresh"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::Help,
        ["help", "CMD"],
        ["Show the help of a command", "Shows the help of a command of cfdot"],
        Server::None,
        &[],
    ),
    verb(
        Call::Locks,
        ["locks", ""],
        ["List locks in locket", "Lists the locks that are held in locket"],
        Server::Locket,
        &[],
    ),
    verb(
        Call::LrpEvents,
        ["lrp-events", ""],
        ["Subscribe to LRP events of the BBS", "Prints events of desired and actual LRPs until it is interrupted"],
        Server::BbsEvents,
        &[
            Flag::new("cell-id", Some('c'), Kind::Text, "only events of actual LRPs on this cell"),
            Flag::new("exclude-actual-lrp-groups", Some('x'), Kind::Switch, "leave the deprecated events of groups out"),
        ],
    ),
    verb(
        Call::Presences,
        ["presences", ""],
        ["List presences in locket", "Lists the presences that are registered in locket"],
        Server::Locket,
        &[],
    ),
    verb(
        Call::ReleaseLock,
        ["release-lock", ""],
        ["Release a lock in locket", "Releases the lock with a key that an owner holds"],
        Server::Locket,
        &[KEY, OWNER],
    ),
    verb(
        Call::RetireActualLrp,
        ["retire-actual-lrp", "PROCESS_GUID INDEX"],
        ["Retire one actual LRP", "Stops the instance with an index; another one starts if it is still desired"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::SetDomain,
        ["set-domain", "DOMAIN"],
        ["Set a domain", "Marks a domain as fresh for a time, or without end if the time is 0 or not given"],
        Server::Bbs,
        &[Flag::new("ttl", Some('t'), Kind::Duration, "how long the domain stays fresh")],
    ),
    verb(
        Call::Task,
        ["task", "TASK_GUID"],
        ["Show one task", "Shows the task with a guid"],
        Server::Bbs,
        &[],
    ),
    verb(
        Call::TaskEvents,
        ["task-events", ""],
        ["Subscribe to task events of the BBS", "Prints events of tasks until it is interrupted"],
        Server::BbsEvents,
        &[],
    ),
    verb(
        Call::Tasks,
        ["tasks", ""],
        ["List tasks", "Lists the tasks that the BBS has"],
        Server::Bbs,
        &[CELL, DOMAIN],
    ),
    verb(
        Call::UpdateDesiredLrp,
        ["update-desired-lrp", "process-guid (SPEC|@FILE)"],
        ["Update a desired LRP", r#"Updates a desired LRP from JSON, or from a file of it: '{"instances":4}', @/path/to/spec.json"#],
        Server::Bbs,
        &[],
    ),
];

pub(crate) fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}
