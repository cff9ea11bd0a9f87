//! The paths that the fake knows: what each read shows, and what each write changes.

use super::areas::Area::{
    self, ApiKeys, Attributes, Connections, Content, Conversations, CreditControls, Documents,
    Evals, Folders, Labels, ModelList, ModelParts, Palettes, Routines, Schedules, Suggestions,
    Uploads, Users,
};
use super::areas::Shape::{self, Cursor, Item, Scim, Whole};

const RECORDS: Shape = Cursor("records");

type Reads = (Option<Area>, &'static [(&'static str, Shape)]);

/// By what they show.
pub(super) static READS: &[Reads] = &[
    (
        Some(Documents),
        &[
            ("/api/v1/documents", RECORDS),
            ("/api/v1/documents/{}", Item),
            ("/api/v1/documents/{}/queries", Whole("queries")),
            ("/api/v1/documents/{}/permissions", Whole("permits")),
            ("/api/v1/documents/{}/access-list", Cursor("principals")),
            ("/api/v1/documents/{}/drafts", Whole("drafts")),
            ("/api/v1/documents/{}/favorites", RECORDS),
            ("/api/v1/dashboards/{}/filters", Item),
            ("/api/unstable/documents/{}/export", Item),
            ("/api/v2/documents/{}", Item),
            ("/api/v2/documents/{}/draft/{}", Item),
        ],
    ),
    (Some(Content), &[("/api/v1/content", RECORDS)]),
    (
        Some(Folders),
        &[("/api/v1/folders", RECORDS), ("/api/v1/folders/{}/permissions", Whole("permits"))],
    ),
    (Some(Labels), &[("/api/v1/labels", Whole("labels")), ("/api/v1/labels/{}", Item)]),
    (Some(ModelList), &[("/api/v1/models", RECORDS)]),
    (
        Some(ModelParts),
        &[
            ("/api/v1/models/{}/schemas", Whole("schemas")),
            ("/api/v1/models/{}/view", Whole("views")),
            ("/api/v1/models/{}/topic", Whole("topics")),
            ("/api/v1/models/{}/topic/{}", Item),
            ("/api/v1/models/{}/validate", Item),
            ("/api/v1/models/{}/dbt-exposures", RECORDS),
            ("/api/v1/models/{}/git", Item),
            ("/api/v1/models/{}/content-validator", Item),
            ("/api/v1/models/{}/yaml", Item),
            ("/api/v1/models/{}/ai-agent-actions", Whole("actions")),
        ],
    ),
    (
        Some(Suggestions),
        &[
            ("/api/v1/models/{}/suggestions", RECORDS),
            ("/api/v1/models/{}/suggestions/runs/latest", Item),
            ("/api/v1/models/{}/suggestions/runs/{}", Item),
        ],
    ),
    (
        Some(Connections),
        &[
            ("/api/v1/connections", Whole("connections")),
            ("/api/v1/connections/{}", Item),
            ("/api/v1/connections/{}/dbt", Item),
            ("/api/v1/connections/{}/dbt/environments", RECORDS),
            ("/api/v1/connections/{}/schedules", Whole("schedules")),
            ("/api/v1/connections/{}/schedules/{}", Item),
            ("/api/v1/connection-environments", Whole("records")),
        ],
    ),
    (
        Some(Schedules),
        &[
            ("/api/v1/schedules", RECORDS),
            ("/api/v1/schedules/{}", Item),
            ("/api/v1/schedules/{}/recipients", Whole("recipients")),
        ],
    ),
    (
        Some(Users),
        &[
            ("/api/scim/v2/Users", Scim),
            ("/api/scim/v2/Users/{}", Item),
            ("/api/scim/v2/embed/Users", Scim),
            ("/api/scim/v2/embed/Users/{}", Item),
            ("/api/scim/v2/Groups", Scim),
            ("/api/scim/v2/Groups/{}", Item),
            ("/api/v1/users/email-only", RECORDS),
            ("/api/v1/users/{}/model-roles", Whole("results")),
            ("/api/v1/user-groups/{}/model-roles", Whole("results")),
        ],
    ),
    (Some(Attributes), &[("/api/v1/user-attributes", Whole("records"))]),
    (Some(Uploads), &[("/api/v1/uploads", RECORDS)]),
    (Some(ApiKeys), &[("/api/v1/api-keys", RECORDS), ("/api/v1/api-keys/{}", Item)]),
    (
        Some(Conversations),
        &[("/api/v1/ai/conversations", RECORDS), ("/api/v1/ai/conversations/{}", Item)],
    ),
    (
        Some(Evals),
        &[
            ("/api/v1/ai/eval/prompt-sets", Whole("records")),
            ("/api/v1/ai/eval/prompt-sets/{}", Item),
            ("/api/v1/ai/eval/runs", Whole("records")),
            ("/api/v1/ai/eval/runs/{}", Item),
        ],
    ),
    (Some(Routines), &[("/api/v1/ai/routines", RECORDS), ("/api/v1/ai/routines/{}", Item)]),
    (
        Some(CreditControls),
        &[("/api/v1/ai/credit-controls", Item), ("/api/v1/ai/credit-controls/users", RECORDS)],
    ),
    (
        Some(Palettes),
        &[("/api/v1/color-palettes", Whole("records")), ("/api/v1/color-palettes/{}", Item)],
    ),
    (
        None,
        &[
            ("/openapi.json", Item),
            ("/api/v1/whoami", Item),
            ("/api/v1/jobs/{}/status", Item),
            ("/api/v1/query/wait", Item),
            ("/api/v1/ai/branding", Item),
            ("/api/v1/ai/jobs/{}", Item),
            ("/api/v1/ai/jobs/{}/result", Item),
            ("/api/v1/ai/jobs/{}/vis", Item),
            ("/api/v1/dashboards/{}/download/{}", Item),
            ("/api/v1/dashboards/{}/download/{}/status", Item),
        ],
    ),
];

/// What is true of a document, of a draft only once it is published.
const DOCUMENT: &[Area] = &[Documents, Content, Folders, Labels, ModelList, Schedules];

/// Whoever gains or loses a document or a folder sees other lists of what belongs to them. "Any
/// list seen by another user" is read as those: a document shows nobody another connection.
const PERMISSIONS: &[Area] = DOCUMENT;

/// A branch brings its drafts of documents along when it is merged.
const MERGE: &[Area] = &[Documents, Content, Folders, Labels, ModelList, ModelParts, Schedules];

const FOLDER: &[Area] = &[Folders, Content, Documents];
const LABEL: &[Area] = &[Labels, Documents, Content, Folders];
const MODEL: &[Area] = &[ModelList, ModelParts];
const CONNECTION: &[Area] = &[Connections, ModelList, ModelParts, Documents, Content];

/// Uploads are tables, which have views in a model.
pub(super) const UPLOAD: &[Area] = &[Uploads, ModelList, ModelParts];

type Writes = (&'static [Area], &'static [(&'static str, &'static str)]);

/// By what they change: the methods, and the path.
pub(super) static WRITES: &[Writes] = &[
    (
        DOCUMENT,
        &[
            ("POST", "/api/v1/documents"),
            ("PUT PATCH DELETE", "/api/v1/documents/{}"),
            ("POST PUT", "/api/v1/documents/{}/move"),
            ("POST", "/api/v1/documents/{}/duplicate"),
            ("PUT", "/api/v1/documents/{}/transfer-ownership"),
            ("POST", "/api/v1/documents/{}/upgrade"),
            ("PATCH", "/api/v1/dashboards/{}/filters"),
            ("POST", "/api/unstable/documents/import"),
            ("PUT", "/api/unstable/documents/{}/update-model"),
            ("POST", "/api/v2/documents"),
            ("POST", "/api/v2/documents/{}/draft/publish"),
            ("PUT", "/api/v2/documents/{}/identifier"),
            ("POST", "/api/v1/models/{}/content-validator"),
        ],
    ),
    (
        // A draft shows nowhere but at its document.
        &[Documents],
        &[
            ("POST DELETE", "/api/v1/documents/{}/draft"),
            ("PATCH", "/api/v2/documents/{}/draft"),
            ("PATCH", "/api/v2/documents/{}/draft/{}"),
            ("DELETE", "/api/v2/documents/{}/draft/{}/dashboard"),
            ("PUT DELETE", "/api/v1/documents/{}/favorite"),
        ],
    ),
    (
        PERMISSIONS,
        &[
            ("PUT POST PATCH DELETE", "/api/v1/documents/{}/permissions"),
            ("POST PATCH DELETE", "/api/v1/folders/{}/permissions"),
        ],
    ),
    (FOLDER, &[("POST", "/api/v1/folders"), ("PATCH DELETE", "/api/v1/folders/{}")]),
    (
        LABEL,
        &[
            ("PATCH", "/api/v1/documents/{}/labels"),
            ("PUT DELETE", "/api/v1/documents/{}/labels/{}"),
            ("POST", "/api/v1/labels"),
            ("PUT DELETE", "/api/v1/labels/{}"),
        ],
    ),
    (MERGE, &[("POST", "/api/v1/models/{}/branch/{}/merge")]),
    (
        MODEL,
        &[
            ("POST", "/api/v1/models"),
            ("PATCH", "/api/v1/models/{}"),
            ("PATCH DELETE", "/api/v1/models/{}/view/{}"),
            ("PATCH DELETE", "/api/v1/models/{}/view/{}/field/{}"),
            ("PATCH DELETE", "/api/v1/models/{}/topic/{}"),
            ("POST", "/api/v1/models/{}/field"),
            ("POST", "/api/v1/models/{}/refresh"),
            ("POST", "/api/v1/models/{}/migrate"),
            ("DELETE", "/api/v1/models/{}/branch/{}"),
            ("POST", "/api/v1/models/{}/branch/{}/dbt"),
            ("POST PATCH DELETE", "/api/v1/models/{}/git"),
            ("POST", "/api/v1/models/{}/git/commit"),
            ("POST", "/api/v1/models/{}/git/sync"),
            ("POST DELETE", "/api/v1/models/{}/yaml"),
        ],
    ),
    (
        CONNECTION,
        &[
            ("POST", "/api/v1/connections"),
            ("PATCH", "/api/v1/connections/{}"),
            ("PUT DELETE", "/api/v1/connections/{}/dbt"),
            ("POST", "/api/v1/connections/{}/dbt/environments"),
            ("PUT DELETE", "/api/v1/connections/{}/dbt/environments/{}"),
            ("POST", "/api/v1/connections/{}/schedules"),
            ("PUT DELETE", "/api/v1/connections/{}/schedules/{}"),
            ("POST", "/api/v1/connection-environments"),
            ("PUT DELETE", "/api/v1/connection-environments/{}"),
        ],
    ),
    (
        // With a connection goes all that is built on it; with people and roles, who sees what.
        Area::ALL,
        &[
            ("DELETE", "/api/v1/connections/{}"),
            ("DELETE", "/api/v1/user-attributes/{}"),
            ("POST", "/api/scim/v2/Users"),
            ("PUT PATCH DELETE", "/api/scim/v2/Users/{}"),
            ("DELETE", "/api/scim/v2/embed/Users/{}"),
            ("POST", "/api/scim/v2/Groups"),
            ("PUT PATCH DELETE", "/api/scim/v2/Groups/{}"),
            ("POST", "/api/v1/users/{}/model-roles"),
            ("POST", "/api/v1/user-groups/{}/model-roles"),
        ],
    ),
    (
        &[Schedules],
        &[
            ("POST", "/api/v1/schedules"),
            ("PUT DELETE", "/api/v1/schedules/{}"),
            ("PUT", "/api/v1/schedules/{}/add-recipients"),
            ("PUT", "/api/v1/schedules/{}/remove-recipients"),
            ("PUT", "/api/v1/schedules/{}/pause"),
            ("PUT", "/api/v1/schedules/{}/resume"),
            ("POST", "/api/v1/schedules/{}/trigger"),
            ("PUT", "/api/v1/schedules/{}/transfer-ownership"),
        ],
    ),
    (UPLOAD, &[("POST", "/api/v1/uploads"), ("DELETE", "/api/v1/uploads/{}")]),
    (
        &[Users],
        &[
            ("POST", "/api/v1/users/email-only"),
            ("POST", "/api/v1/users/email-only/bulk"),
            ("POST", "/api/v1/embed/sso/generate-session"),
            ("POST", "/api/unstable/embed/sso/generate-session"),
            ("POST", "/embed/sso/generate-url"),
        ],
    ),
    (
        &[Attributes],
        &[("POST", "/api/v1/user-attributes"), ("PUT PATCH", "/api/v1/user-attributes/{}")],
    ),
    (
        &[Suggestions],
        &[
            ("DELETE", "/api/v1/models/{}/suggestions/{}"),
            ("POST", "/api/v1/models/{}/suggestions/generate"),
            ("PUT DELETE", "/api/v1/models/{}/suggestions/schedule"),
            ("POST", "/api/v1/models/{}/suggestions/{}/ignore"),
            ("POST", "/api/v1/models/{}/suggestions/{}/restore"),
        ],
    ),
    (
        &[Evals],
        &[
            ("POST", "/api/v1/ai/eval/prompt-sets"),
            ("PATCH DELETE", "/api/v1/ai/eval/prompt-sets/{}"),
            ("POST", "/api/v1/ai/eval/prompt-sets/{}/unarchive"),
            ("POST", "/api/v1/ai/eval/runs"),
            ("DELETE", "/api/v1/ai/eval/runs/{}"),
            ("POST", "/api/v1/ai/eval/runs/{}/cancel"),
            ("POST", "/api/v1/ai/eval/runs/{}/unarchive"),
        ],
    ),
    (
        &[Routines],
        &[
            ("POST", "/api/v1/ai/routines"),
            ("PUT DELETE", "/api/v1/ai/routines/{}"),
            ("POST", "/api/v1/ai/routines/{}/trigger"),
        ],
    ),
    (
        &[CreditControls],
        &[("PATCH", "/api/v1/ai/credit-controls"), ("PATCH", "/api/v1/ai/credit-controls/users")],
    ),
    (&[Palettes], &[("POST", "/api/v1/color-palettes"), ("PUT", "/api/v1/color-palettes/{}")]),
    (&[ApiKeys], &[("PUT DELETE", "/api/v1/api-keys/{}")]),
    (&[Conversations], &[("POST", "/api/v1/ai/jobs"), ("POST", "/api/v1/ai/jobs/{}/cancel")]),
    (
        // These are asked with POST, or change nothing that a read shows.
        &[],
        &[
            ("POST", "/api/v1/query/run"),
            ("POST", "/api/v1/ai/generate-query"),
            ("POST", "/api/v1/ai/pick-topic"),
            ("POST", "/api/v1/ai/search-omni-docs"),
            ("POST", "/api/v1/dashboards/{}/download"),
            ("POST", "/api/v1/models/{}/cache_reset/{}"),
        ],
    ),
];
