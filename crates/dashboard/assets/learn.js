// Learn mode: each station explains itself in two sentences, and names the story of the lesson that makes it observable.

import { h } from './dom.js';

const TEXTS = {
  api: ['A person types a command, and the cf CLI sends it to the API. The request passes the router like every other one.', 1, 'cf map-route APP DOMAIN --hostname HOST'],
  'cloud-controller': ['The Cloud Controller stores what the user wants: apps, routes, destinations. It knows no address of any instance.', 3, 'cf curl /v3/routes'],
  bbs: ["Diego's BBS has the desired LRPs (what should run) and the actual LRPs (what runs). Every change of them is an event.", 5, 'cfdot desired-lrps'],
  auctioneer: ['The auctioneer asks all cells for their state and gives each missing instance to the best one. Without a cell that fits, the instance waits.', 4, 'cfdot actual-lrps | jq .state'],
  cell: ["The cell's rep claims the instance and has garden make its container. It reports RUNNING when the health check passes.", 4, 'cfdot actual-lrps | jq .cell_id'],
  container: ['The app runs in a container with an address of its own on the overlay network. It listens on 8080, as always.', 10, 'cf ssh APP'],
  envoy: ['Envoy stands in front of the app in the same container. Its certificate names the instance, so that the router can check whom it reached.', 10, 'curl localhost:61003/clusters'],
  dnat: ["Nothing listens on the cell's port: a rule of iptables translates it to the container. If the rule is wrong, the request reaches somebody else.", 9, 'iptables -S -t nat'],
  'route-emitter': ['The route-emitter joins desired routes with running instances, and publishes each pair. It repeats that every 20 seconds.', 6, 'nats sub router.register'],
  nats: ['NATS carries the messages from emitters to routers. It keeps none: what nobody receives is lost, until it is repeated.', 6, 'nats sub "*.*"'],
  router: ['The router has a table from routes to endpoints. It picks one for each request and checks the certificate behind it.', 7, 'cupola routes'],
  client: ['A client sends a request with the name of the host. It needs no load balancer: any router answers.', 12, 'curl -H "Host: HOST" http://ROUTER/'],
};

/** Returns the explanation of a station. */
export function learned(id, name) {
  const [text, story, command] = TEXTS[id];
  return h('div.learned', { 'data-of': id },
    h('h2', name),
    h('p', text),
    h('p.small.soft', `Story ${story} of the lesson makes it observable (bin/cupola lesson ${story}). Type:`),
    h('code', command));
}
