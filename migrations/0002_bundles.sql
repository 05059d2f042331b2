-- An app's repository is a cache of the object store: what a push brought that no former one had is
-- kept as a git bundle, named by the deploy that it asked for. Read in the order of the deploys'
-- numbers, they are the repository again. Null: all of it was kept already, or it was pushed before
-- there were bundles.
alter table deploy add column bundle text;
