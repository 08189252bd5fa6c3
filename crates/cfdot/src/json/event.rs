//! Events, with the JSON of their objects.

use super::Object;
use super::actual_lrp::{actual_lrp, actual_lrp_group, actual_lrp_info, instance_key, key};
use super::desired_lrp::desired_lrp;
use super::task::task;
use wire::bbs as m;

/// Returns an event: `{"type":"actual_lrp_instance_changed","data":{…}}`.
pub fn event(event: &m::Event) -> Object {
    use m::Event as E;
    let of_desired = |e: &m::DesiredLrpEvent| {
        Object::new()
            .some("desired_lrp", e.desired_lrp.as_ref().map(desired_lrp))
            .put("trace_id", &e.trace_id)
    };
    let of_actual = |e: &m::ActualLrpInstanceEvent| {
        Object::new()
            .some("actual_lrp", e.actual_lrp.as_ref().map(actual_lrp))
            .put("trace_id", &e.trace_id)
    };
    let of_task = |e: &m::TaskEvent| Object::new().some("task", e.task.as_ref().map(task));
    let data = match event {
        E::DesiredLrpCreated(e) | E::DesiredLrpRemoved(e) => of_desired(e),
        E::DesiredLrpChanged(e) => Object::new()
            .some("before", e.before.as_ref().map(desired_lrp))
            .some("after", e.after.as_ref().map(desired_lrp))
            .put("trace_id", &e.trace_id),
        E::ActualLrpInstanceCreated(e) | E::ActualLrpInstanceRemoved(e) => of_actual(e),
        E::ActualLrpInstanceChanged(e) => key(e.key.as_ref())
            .embed(instance_key(e.instance_key.as_ref()))
            .some("before", e.before.as_ref().map(actual_lrp_info))
            .some("after", e.after.as_ref().map(actual_lrp_info))
            .put("trace_id", &e.trace_id),
        E::ActualLrpCrashed(e) => key(e.key.as_ref())
            .embed(instance_key(e.instance_key.as_ref()))
            .put("crash_count", e.crash_count)
            .text("crash_reason", &e.crash_reason)
            .put("since", e.since),
        E::TaskCreated(e) | E::TaskRemoved(e) => of_task(e),
        E::TaskChanged(e) => Object::new()
            .some("before", e.before.as_ref().map(task))
            .some("after", e.after.as_ref().map(task)),
    };
    Object::new().put("type", event.name()).put("data", data)
}

/// Returns one of the deprecated events of groups: `{"type":"actual_lrp_changed","data":{…}}`.
pub fn group_event(event: &m::GroupEvent) -> Object {
    use m::GroupEvent as E;
    let of_group = |e: &m::ActualLrpGroupEvent| {
        Object::new().some(
            "actual_lrp_group",
            e.actual_lrp_group.as_ref().map(actual_lrp_group),
        )
    };
    let data = match event {
        E::Created(e) | E::Removed(e) => of_group(e),
        E::Changed(e) => Object::new()
            .some("before", e.before.as_ref().map(actual_lrp_group))
            .some("after", e.after.as_ref().map(actual_lrp_group)),
    };
    Object::new().put("type", event.name()).put("data", data)
}
