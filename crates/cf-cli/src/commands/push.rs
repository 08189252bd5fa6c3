//! The table entry of `push`; the work is in [`crate::push`].

use crate::args::{Spec, switch, value};
use crate::start::{MAX_IN_FLIGHT, STRATEGY};

pub(super) const SPECS: &[Spec] = &[Spec {
    name: "push",
    alias: "p",
    group: "Apps",
    about: "Push a new app or sync changes to an existing app",
    args: &["[APP_NAME]"],
    flags: &[
        value(
            Some('b'),
            "buildpack",
            "BUILDPACK",
            "Buildpack by name or URL; may be used several times; 'default' detects one",
        )
        .repeats(),
        value(
            Some('c'),
            "start-command",
            "COMMAND",
            "Start command; 'default' uses the buildpack's",
        ),
        value(
            Some('f'),
            "manifest",
            "PATH",
            "Manifest file, or the folder of a manifest.yml",
        ),
        value(Some('i'), "instances", "N", "Number of instances"),
        value(Some('k'), "disk", "DISK", "Disk limit (256M, 1G)"),
        value(Some('m'), "memory", "MEMORY", "Memory limit (64M, 1G)"),
        value(
            Some('p'),
            "path",
            "PATH",
            "Folder or zip file of the app (default: the current folder)",
        ),
        value(Some('s'), "stack", "STACK", "Root file system (cflinuxfs4)"),
        value(
            Some('t'),
            "app-start-timeout",
            "SECONDS",
            "Longest time until the app must be healthy",
        ),
        value(
            Some('u'),
            "health-check-type",
            "TYPE",
            "http, port or process",
        ),
        value(None, "endpoint", "PATH", "Path of the http health check"),
        switch(
            None,
            "no-manifest",
            "Ignore a manifest.yml in the current folder",
        )
        .not_with(&["manifest", "var", "vars-file"]),
        switch(
            None,
            "no-route",
            "Give the app no route, and remove those that it has",
        )
        .not_with(&["random-route"]),
        switch(
            None,
            "no-start",
            "Do not stage and do not start the app after the upload",
        )
        .not_with(&["no-wait", "strategy"]),
        switch(
            None,
            "no-wait",
            "Return when the first instance of the web process runs",
        ),
        switch(None, "random-route", "Make a random route"),
        STRATEGY,
        MAX_IN_FLIGHT,
        value(
            None,
            "var",
            "KEY=VALUE",
            "Variable of the manifest; may be used several times",
        )
        .repeats(),
        value(
            None,
            "vars-file",
            "PATH",
            "File of variables of the manifest; may be used several times",
        )
        .repeats(),
    ],
    examples: &[
        "cf push my-app -p ./app -b binary_buildpack -c ./server -m 64M -i 2",
        "cf push -f manifest.yml --var host=demo",
        "cf push my-app --strategy rolling",
        "cf push worker --no-route -u process",
    ],
}];
