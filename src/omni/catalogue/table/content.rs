//! What people make: documents, dashboards, folders, labels, palettes.

use super::{DOCUMENT, FAVORITE, FOLDER, LABEL, PERMISSIONS};
use crate::omni::catalogue::Collection::{Content, Documents, Folders, Labels, Palettes};
use crate::omni::catalogue::Endpoint;
use crate::omni::catalogue::Paging::{Cursor, Unknown, Whole};
use crate::omni::catalogue::endpoint::{delete, get, patch, post, put};

pub(super) static ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/content").lists(Content, Cursor).up_to(100),
    post("/api/v1/dashboards/{identifier}/download").for_others().stale(&[]),
    get("/api/v1/dashboards/{identifier}/download/{jobId}").streaming().for_others(),
    get("/api/v1/dashboards/{identifier}/download/{jobId}/status").polled().for_others(),
    get("/api/v1/dashboards/{identifier}/filters").of(Documents).for_others(),
    patch("/api/v1/dashboards/{identifier}/filters").for_others().stale(DOCUMENT),
    get("/api/v1/documents").lists(Documents, Cursor).up_to(100).for_others(),
    post("/api/v1/documents").stale(DOCUMENT),
    get("/api/v1/documents/{identifier}").of(Documents),
    put("/api/v1/documents/{identifier}").stale(DOCUMENT),
    patch("/api/v1/documents/{identifier}").stale(DOCUMENT),
    delete("/api/v1/documents/{identifier}").stale(DOCUMENT),
    get("/api/v1/documents/{identifier}/queries").lists(Documents, Whole),
    post("/api/v1/documents/{identifier}/move").stale(DOCUMENT),
    get("/api/v1/documents/{identifier}/permissions").lists(Documents, Whole).for_others(),
    put("/api/v1/documents/{identifier}/permissions").stale(PERMISSIONS),
    post("/api/v1/documents/{identifier}/permissions").stale(PERMISSIONS),
    patch("/api/v1/documents/{identifier}/permissions").stale(PERMISSIONS),
    delete("/api/v1/documents/{identifier}/permissions").stale(PERMISSIONS),
    post("/api/v1/documents/{identifier}/draft").stale(DOCUMENT),
    delete("/api/v1/documents/{identifier}/draft").stale(DOCUMENT),
    post("/api/v1/documents/{identifier}/duplicate").for_others().stale(DOCUMENT),
    put("/api/v1/documents/{identifier}/favorite").for_others().stale(FAVORITE),
    delete("/api/v1/documents/{identifier}/favorite").for_others().stale(FAVORITE),
    patch("/api/v1/documents/{identifier}/labels").for_others().stale(LABEL),
    put("/api/v1/documents/{identifier}/labels/{labelName}")
        .free(&["labelName"])
        .for_others()
        .stale(LABEL),
    delete("/api/v1/documents/{identifier}/labels/{labelName}")
        .free(&["labelName"])
        .for_others()
        .stale(LABEL),
    put("/api/v1/documents/{identifier}/transfer-ownership").names_user().stale(DOCUMENT),
    get("/api/v1/documents/{identifier}/access-list").lists(Documents, Cursor).up_to(100),
    get("/api/v1/folders").lists(Folders, Cursor).up_to(100).for_others(),
    post("/api/v1/folders").names_user().stale(FOLDER),
    delete("/api/v1/folders/{folderId}").stale(FOLDER),
    patch("/api/v1/folders/{folderId}").stale(FOLDER),
    get("/api/v1/folders/{folderId}/permissions").lists(Folders, Whole).for_others(),
    post("/api/v1/folders/{folderId}/permissions").stale(PERMISSIONS),
    patch("/api/v1/folders/{folderId}/permissions").stale(PERMISSIONS),
    delete("/api/v1/folders/{folderId}/permissions").stale(PERMISSIONS),
    get("/api/v1/labels").lists(Labels, Whole),
    post("/api/v1/labels").for_others().stale(LABEL),
    get("/api/v1/labels/{name}").of(Labels).free(&["name"]),
    put("/api/v1/labels/{name}").free(&["name"]).for_others().stale(LABEL),
    delete("/api/v1/labels/{name}").free(&["name"]).for_others().stale(LABEL),
    get("/api/unstable/documents/{identifier}/export").of(Documents),
    post("/api/unstable/documents/import").stale(DOCUMENT),
    post("/api/v2/documents").stale(DOCUMENT),
    get("/api/v2/documents/{documentId}").of(Documents),
    patch("/api/v2/documents/{documentId}/draft").stale(DOCUMENT),
    post("/api/v2/documents/{documentId}/draft/publish").stale(DOCUMENT),
    get("/api/v2/documents/{documentId}/draft/{draftId}").of(Documents),
    patch("/api/v2/documents/{documentId}/draft/{draftId}").stale(DOCUMENT),
    delete("/api/v2/documents/{documentId}/draft/{draftId}/dashboard").stale(DOCUMENT),
    put("/api/v2/documents/{documentId}/identifier").stale(DOCUMENT),
    put("/api/v1/documents/{identifier}/move").stale(DOCUMENT),
    get("/api/v1/documents/{identifier}/drafts").lists(Documents, Whole),
    get("/api/v1/documents/{identifier}/favorites").lists(Documents, Cursor),
    post("/api/v1/documents/{identifier}/upgrade").stale(DOCUMENT),
    get("/api/v1/color-palettes").lists(Palettes, Unknown),
    post("/api/v1/color-palettes").admin().stale(&[Palettes]),
    get("/api/v1/color-palettes/{colorPaletteId}").of(Palettes),
    put("/api/v1/color-palettes/{colorPaletteId}").admin().stale(&[Palettes]),
    put("/api/unstable/documents/{documentId}/update-model").stale(DOCUMENT),
];
