//! Where a destination keeps its records, content and unfinished uploads, as its settings say.

use std::sync::Arc;

use crate::content::{self, Content, ContentError, FOLDER};
use crate::home::Home;
use crate::intake::IntakeError;
use crate::partials::{Folder, Place, Shared};
use crate::store::Records;

/// All of it, open.
pub(crate) struct Places {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) content: Arc<dyn Content>,
    pub(crate) partials: Box<dyn Place>,
}

impl Places {
    /// Where both database and content are shared, so are unfinished uploads; else they lie in the home.
    pub(crate) fn open(home: &Home) -> Result<Self, IntakeError> {
        let settings = home.settings();
        if let (Some(database), Some(url)) = (&settings.database, &settings.content)
            && url != FOLDER
        {
            let records = Arc::new(home.postgres(database)?);
            let content = Arc::new(content::open_objects(home, url).map_err(ContentError::from)?);
            let partials = Box::new(Shared::new(records.clone(), content.clone()));
            return Ok(Places { records, content, partials });
        }
        let folder = home.partials_folder();
        let partials =
            Folder::open(&folder).map_err(|error| IntakeError::File { path: folder.clone(), error })?;
        let (records, content) = (home.records()?, content::open(home)?);
        Ok(Places { records, content, partials: Box::new(partials) })
    }
}
