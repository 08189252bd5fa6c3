//! Actions, nested as in the definition.

use super::definition::{env, file};
use super::{Object, each};
use wire::bbs as m;

/// Returns an action: `{"run":{…}}`, `{"serial":{"actions":[…]}}`.
pub fn action(action: &m::Action) -> Object {
    let inner = |a: &Option<Box<m::Action>>| a.as_deref().map(self::action);
    let group = |actions: &[m::Action], log_source: &str| {
        Object::new()
            .list("actions", each(actions, self::action))
            .text("log_source", log_source)
    };
    Object::new()
        .some("download", action.download.as_ref().map(download))
        .some("upload", action.upload.as_ref().map(upload))
        .some("run", action.run.as_ref().map(run))
        .some(
            "timeout",
            action.timeout.as_ref().map(|t| {
                Object::new()
                    .some("action", inner(&t.action))
                    .text("log_source", &t.log_source)
                    .put("timeout_ms", t.timeout_ms)
            }),
        )
        .some(
            "emit_progress",
            action.emit_progress.as_ref().map(|e| {
                Object::new()
                    .some("action", inner(&e.action))
                    .put("start_message", &e.start_message)
                    .put("success_message", &e.success_message)
                    .put("failure_message_prefix", &e.failure_message_prefix)
                    .text("log_source", &e.log_source)
            }),
        )
        .some(
            "try",
            action.try_.as_ref().map(|t| {
                Object::new()
                    .some("action", inner(&t.action))
                    .text("log_source", &t.log_source)
            }),
        )
        .some(
            "parallel",
            action
                .parallel
                .as_ref()
                .map(|g| group(&g.actions, &g.log_source)),
        )
        .some(
            "serial",
            action
                .serial
                .as_ref()
                .map(|g| group(&g.actions, &g.log_source)),
        )
        .some(
            "codependent",
            action
                .codependent
                .as_ref()
                .map(|g| group(&g.actions, &g.log_source)),
        )
}

fn download(a: &m::DownloadAction) -> Object {
    Object::new()
        .text("artifact", &a.artifact)
        .put("from", &a.from)
        .put("to", &a.to)
        .put("cache_key", &a.cache_key)
        .text("log_source", &a.log_source)
        .put("user", &a.user)
        .text("checksum_algorithm", &a.checksum_algorithm)
        .text("checksum_value", &a.checksum_value)
}

fn upload(a: &m::UploadAction) -> Object {
    Object::new()
        .text("artifact", &a.artifact)
        .put("from", &a.from)
        .put("to", &a.to)
        .text("log_source", &a.log_source)
        .put("user", &a.user)
}

fn run(a: &m::RunAction) -> Object {
    Object::new()
        .put("path", &a.path)
        .list("args", a.args.clone())
        .text("dir", &a.dir)
        .list("env", env(&a.env))
        .some(
            "resource_limits",
            a.resource_limits.as_ref().map(|l| {
                Object::new()
                    .some("nofile", l.nofile)
                    .some("nproc", l.nproc)
            }),
        )
        .put("user", &a.user)
        .text("log_source", &a.log_source)
        .put("suppress_log_output", a.suppress_log_output)
        .nullable("volume_mounted_files", each(&a.volume_mounted_files, file))
}
