//! Who there is and what they may: users, groups, roles, keys, embed sessions.

use crate::omni::catalogue::Collection::{
    self, ApiKeys, Content, Documents, Folders, UserAttributes, Users,
};
use crate::omni::catalogue::Endpoint;
use crate::omni::catalogue::Paging::{Cursor, Scim, Whole};
use crate::omni::catalogue::endpoint::{delete, get, patch, post, put};

/// Such a session makes or changes an embed user, with a folder of its own. It happens with every
/// visit, so that dropping everything would leave nothing to keep.
const EMBED_SESSION: &[Collection] = &[Users, Folders, Content, Documents];

pub(super) static ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/api-keys").lists(ApiKeys, Cursor).up_to(100).admin(),
    get("/api/v1/api-keys/{id}").of(ApiKeys).admin(),
    put("/api/v1/api-keys/{id}").admin().stale(&[ApiKeys]),
    delete("/api/v1/api-keys/{id}").admin().stale(&[ApiKeys]),
    post("/api/v1/embed/sso/generate-session").unknown_keys().stale(EMBED_SESSION),
    get("/api/scim/v2/Users").lists(Users, Scim).organization(),
    post("/api/scim/v2/Users").organization(),
    get("/api/scim/v2/Users/{id}").of(Users).organization(),
    put("/api/scim/v2/Users/{id}").organization(),
    patch("/api/scim/v2/Users/{id}").organization(),
    delete("/api/scim/v2/Users/{id}").organization(),
    get("/api/scim/v2/embed/Users").lists(Users, Scim).organization(),
    get("/api/scim/v2/embed/Users/{id}").of(Users).organization(),
    delete("/api/scim/v2/embed/Users/{id}").organization(),
    get("/api/scim/v2/Groups").lists(Users, Scim).organization(),
    post("/api/scim/v2/Groups").organization(),
    get("/api/scim/v2/Groups/{miniUuid}").of(Users).organization(),
    put("/api/scim/v2/Groups/{miniUuid}").organization(),
    patch("/api/scim/v2/Groups/{miniUuid}").organization(),
    delete("/api/scim/v2/Groups/{miniUuid}").organization(),
    get("/api/v1/user-attributes").lists(UserAttributes, Whole).admin(),
    get("/api/v1/users/{id}/model-roles").lists(Users, Whole).admin(),
    post("/api/v1/users/{id}/model-roles").admin(),
    get("/api/v1/users/email-only").lists(Users, Cursor).up_to(20).admin(),
    post("/api/v1/users/email-only").admin().stale(&[Users]),
    post("/api/v1/users/email-only/bulk").admin().stale(&[Users]),
    get("/api/v1/user-groups/{id}/model-roles").lists(Users, Whole).admin(),
    post("/api/v1/user-groups/{id}/model-roles").admin(),
    get("/api/v1/whoami"),
    post("/api/v1/user-attributes").admin().stale(&[UserAttributes]),
    put("/api/v1/user-attributes/{id}").admin(),
    patch("/api/v1/user-attributes/{id}").admin(),
    delete("/api/v1/user-attributes/{id}").admin(),
    post("/embed/sso/generate-url").unknown_keys().stale(EMBED_SESSION),
    post("/api/unstable/embed/sso/generate-session").unknown_keys().stale(EMBED_SESSION),
];
