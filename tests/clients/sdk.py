"""omni-python-sdk as its users use it: every kind of call that it has, with a key that is none.

    sdk.py URL
"""

import sys

from omni_python_sdk import OmniAPI

url = sys.argv[1]
api = OmniAPI("dummy-key-of-a-client", url)


def same(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r}, not {wanted!r}")
    print(f"{what}: {got!r}")


# Lists. The SDK asks for folders with an empty `path=`.
folders = api.list_folders()
same("folders", len(folders["records"]), 20)
same("folders in all", folders["pageInfo"]["totalRecords"], 120)
folder = folders["records"][3]
same("one folder by its path", api.list_folders(folder["path"])["records"][0]["id"], folder["id"])
documents = api.list_documents(folder["id"])["records"]
same("documents of one folder", {document["folderId"] for document in documents}, {folder["id"]})
models = api.list_models(modelKind="SHARED")["records"]
same("kinds of models", {model["modelKind"] for model in models}, {"SHARED"})

# A query with its answer, an Arrow table.
table, fields = api.run_query_blocking(
    {
        "query": {
            "modelId": models[0]["id"],
            "table": "orders",
            "fields": ["orders.status", "orders.count", "orders.total"],
            "limit": 1000,
        }
    }
)
same("rows and columns", table.shape, (3, 3))
same("statuses", table.column("orders.status").to_pylist(), ["complete", "pending", "returned"])
same("counts", table.column("orders.count").to_pylist(), [1204, 37, 12])
same("totals", table.column("orders.total").to_pylist(), [18250.5, 410.25, None])
same("fields", sorted(fields), sorted(table.column_names))

# Users.
email = "grace@acme.example"
api.upsert_user(email, "Grace", {"region": "north"})
user = api.return_user_by_email(email)
same("a new user", user["displayName"], "Grace")
api.upsert_user(email, "Grace H.", {"region": "[north,south]"})
user = api.return_user_by_email(email)
same("the same, renamed", user["displayName"], "Grace H.")
same("her regions", user["urn:omni:params:1.0:UserAttribute"]["region"], ["north", "south"])

# Groups.
groups = api.get_all_groups()
same("groups", [group["displayName"] for group in groups], [f"Group {n}" for n in range(5)])
group = api.get_group_id("Group 2")


def members():
    return [member["value"] for member in api.get_group(group)["members"]]


before = members()
same("put into a group", api.add_user_to_group("Group 2", user["id"]).status_code, 200)
same("its members", members(), before + [user["id"]])
same("taken out", api.remove_user_from_group("Group 2", user["id"]).status_code, 200)
same("its members", members(), before)
same("the user is deleted", api.delete_user(email).status_code, 204)
same("and gone", api.find_user_by_email(email).json()["totalResults"], 0)

# What else there is.
document = documents[0]["identifier"]
export = api.document_export(document)
same("an export", export["id"] is not None, True)
same("an import", api.document_import({"name": "copy"}).status_code, 200)
same("a model", api.create_model(models[0]["connectionId"], "a new one")["success"], True)
same("its YAML, read", api.yamlr(models[0]["id"], {}, version="v1") is not None, True)
same("its YAML, written", api.yamlw(models[0]["id"], {}, version="v1")["success"], True)
same("an embed URL", api.generate_embed_url({"contentPath": "/dashboards/1"}).status_code, 200)

# The other forms of the base URL.
for form in ("/", "/api", "/api/v1", "/api/unstable"):
    other = OmniAPI("dummy-key-of-a-client", url + form)
    same(f"folders by way of {form}", len(other.list_folders()["records"]), 20)
print("all of it holds")
