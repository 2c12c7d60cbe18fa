/** Entity tags and preconditions (RFC 9110, 8.8.3 and 13.1). */
import * as z from "zod";

/** The strong tag of a revision; a revision is never used twice inside a tenant. */
export const etagOf = (revision: string): string => `"${revision}"`;

/** `*`, or the tags of a list in their order. */
export type EntityTags = "*" | readonly EntityTag[];
interface EntityTag {
  readonly weak: boolean;
  /** What stands between the quotes. */
  readonly opaque: string;
}

const TAG = /(W\/)?"([\x21\x23-\x7e]*)"/;
const LIST = new RegExp(`^${TAG.source}(?:\\s*,\\s*${TAG.source})*$`);
const MAX_TAGS = 32;

/** `If-Match` or `If-None-Match`: `*` or at most 32 tags. */
export const entityTags = z
  .string()
  .max(4096)
  .transform((header, context): EntityTags => {
    const text = header.trim();
    if (text === "*") return "*";
    const found = LIST.test(text) ? [...text.matchAll(new RegExp(TAG, "g"))] : [];
    if (found.length < 1 || found.length > MAX_TAGS) {
      context.addIssue({ code: "custom", message: `Expected * or 1 to ${MAX_TAGS} entity tags` });
    }
    return found.map(([, weak, opaque = ""]) => ({ weak: weak !== undefined, opaque }));
  });

/** Revisions that satisfy `If-Match`: strong comparison, so weak tags never do (RFC 9110, 13.1.1). */
export const strongRevisions = (tags: EntityTags): "*" | string[] =>
  tags === "*" ? tags : weakRevisions(tags.filter(({ weak }) => !weak));

/** Revisions that `If-None-Match` names: weak comparison, so weak tags do as well (RFC 9110, 13.1.2). */
export const weakRevisions = (tags: EntityTags): "*" | string[] =>
  tags === "*" ? tags : tags.filter(({ opaque }) => isRevision(opaque)).map(({ opaque }) => opaque);

/** Revisions are sequence numbers; whatever else a caller quotes is no tag of ours. */
const isRevision = (opaque: string): boolean => /^[1-9]\d{0,15}$/.test(opaque);

/** Whether `If-None-Match` names the revision: weak comparison (RFC 9110, 13.1.2). */
export const namesRevision = (tags: EntityTags | undefined, revision: string): boolean =>
  tags !== undefined && (tags === "*" || tags.some(({ opaque }) => opaque === revision));
