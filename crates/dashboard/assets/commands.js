// The commands that show the same in a terminal, so that the picture teaches the tools. All functions are pure.

const quoted = (text) => (/^[A-Za-z0-9._/:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** Returns the commands for a route. */
export function ofRoute(route) {
  const app = route.apps?.[0];
  const endpoint = route.endpoints?.[0];
  return [
    ['cupola', `cupola why ${quoted(route.uri)}`],
    ['cupola', `cupola watch ${quoted(route.uri.split('/')[0])}`],
    ['curl', `curl -v http://${quoted(route.uri)}`],
    app && ['cf', `cf app ${quoted(app.name)}`],
    app && ['cfdot', `cfdot actual-lrps | jq 'select(.process_guid | startswith("${app.guid}"))'`],
    endpoint && ['iptables', `iptables -S -t nat | grep -- '--dport ${endpoint.address.split(':').pop()} '`],
  ].filter(Boolean);
}

export function ofInstance(instance) {
  const name = instance.app || instance.process_guid;
  const port = instance.endpoint?.split(':').pop();
  return [
    ['cf', `cf app ${quoted(name)}`],
    ['cfdot', `cfdot actual-lrps | jq 'select(.instance_guid == "${instance.instance_guid}")'`],
    ['cupola', `cupola exec ${quoted(`${name}/${instance.index}`)} -- curl -s localhost:61003/clusters`],
    port && ['iptables', `iptables -S -t nat | grep -- '--dport ${port} '`],
  ].filter(Boolean);
}

export function ofCell(cell) {
  return [
    ['cfdot', `cfdot cells | jq 'select(.cell_id == "${cell.id}")'`],
    ['cfdot', `cfdot actual-lrps | jq 'select(.cell_id == "${cell.id}")'`],
  ];
}

export function ofRouter(router) {
  return [
    ['cupola', 'cupola routes'],
    ['cupola', 'cupola routes --watch'],
    ['curl', `curl -u router-status http://${router.name}/routes`],
  ];
}
