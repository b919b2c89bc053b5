//! HTTPS client of the destination API, and the plan of what to upload when
