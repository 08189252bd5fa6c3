//! The things of the marketplace: brokers, offerings, plans, and what brokers make of them. Each is of a broker of its own.

use super::World;
use crate::managed_route_bindings::become_gate;
use serde_json::json;

/// Makes a thing of the marketplace; `None`: the name means something else.
pub(super) async fn make(world: &World, name: &str) -> Option<String> {
    let f = &world.f;
    let register = async |space: Option<&str>| {
        let name = world.name();
        f.register(&world.broker, &name, space).await
    };
    let own = Some(f.space.as_str());
    Some(match name {
        "broker_url" => world.broker.url.clone(),
        "service_broker" => register(None).await,
        "space_broker" => register(own).await,
        "space_offering" => f.offering_of(&register(own).await).await,
        "space_plan" => f.plan_of(&register(own).await, "small").await,
        "service_offering" => {
            let broker = register(None).await;
            let plan = f.plan_of(&broker, "small").await;
            f.set_visibility(&plan, json!({ "type": "public" })).await;
            f.offering_of(&broker).await
        }
        "service_plan" => {
            let plan = f.plan_of(&register(None).await, "small").await;
            f.set_visibility(&plan, json!({ "type": "public" })).await;
            plan
        }
        "managed_instance" => instance(world).await,
        "managed_binding" => {
            let app = f.create_app(&world.name()).await;
            f.bind_managed(&app, &instance(world).await).await
        }
        "service_key" => f.create_key(&instance(world).await, &world.name()).await,
        "managed_route_service" => route_service(world).await,
        "managed_route_binding" => {
            let route = f.create_route(&world.name(), "").await;
            let instance = route_service(world).await;
            f.bind_route_managed(&route, &instance).await
        }
        "restricted_plan" => {
            let plan = f.plan_of(&register(None).await, "small").await;
            let organizations = json!([{ "guid": f.organization }]);
            let body = json!({ "type": "organization", "organizations": organizations });
            f.set_visibility(&plan, body).await;
            plan
        }
        _ => return None,
    })
}

/// Makes a managed instance of a plan that everybody may use.
async fn instance(world: &World) -> String {
    let (plan, _) = world.f.offer(&world.broker, &world.name()).await;
    world.f.create_managed(&world.name(), &plan).await
}

/// Makes a managed instance to which routes can be bound.
async fn route_service(world: &World) -> String {
    become_gate(&world.broker);
    instance(world).await
}
