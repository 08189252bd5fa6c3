"""Runs PyPI cloudfoundry-client, an independent client, against a Cupola foundation."""
import sys
import warnings

warnings.filterwarnings("ignore")
from cloudfoundry_client.client import CloudFoundryClient

api, password, domain = sys.argv[1:4]
client = CloudFoundryClient(api, verify=False)
client.init_with_user_credentials("admin", password)

org = client.v3.organizations.create("from-python", suspended=False)
assert org["name"] == "from-python", org
space = client.v3.spaces.create("from-python-space", org["guid"])
assert [o for o in client.v3.organizations.list() if o["name"] == "from-python"], "org is not listed"
assert [s for s in client.v3.spaces.list() if s["guid"] == space["guid"]], "space is not listed"
domains = list(client.v3.domains.list())
assert [d for d in domains if d["name"] == domain], domains
apps = list(client.v3.apps.list())
assert [a for a in apps if a["name"] == "appA"], apps
routes = list(client.v3.routes.list())
assert [r for r in routes if r["url"] == "appA." + domain], routes
created = client.v3.domains.create("from-python." + domain)
assert created["name"] == "from-python." + domain
client.v3.domains.remove(created["guid"])
client.v3.spaces.remove(space["guid"])
client.v3.organizations.remove(org["guid"])
print("ok")
