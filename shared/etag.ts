/** Entity tags and preconditions (RFC 9110, 8.8.3 and 13.1). */
import { z } from "zod";

/** The strong tag of a revision; a revision is never used twice inside a tenant. */
export const etagOf = (revision: string): string => `"${revision}"`;

/** `*`, or revisions; a weak tag in the list keeps its `W/`. */
export type EntityTags = "*" | readonly string[];

const LIST = /^(?:W\/)?"[\x21\x23-\x7e]*"(?:\s*,\s*(?:W\/)?"[\x21\x23-\x7e]*")*$/;

/** `If-Match` or `If-None-Match`: `*` or at most 32 tags. */
export const entityTags = z
  .string()
  .max(4096)
  .transform((header, context): EntityTags => {
    const text = header.trim();
    if (text === "*") return "*";
    const tags = LIST.test(text) ? text.split(",").map((tag) => tag.trim()) : [];
    if (tags.length < 1 || tags.length > 32) {
      context.addIssue({ code: "custom", message: "Expected * or 1 to 32 entity tags" });
    }
    return tags.map((tag) => tag.replaceAll('"', ""));
  });

/** Revisions that satisfy `If-Match`: strong comparison, so weak tags never do (RFC 9110, 13.1.1). */
export const strongRevisions = (tags: EntityTags): EntityTags =>
  tags === "*" ? tags : tags.filter((tag) => !tag.startsWith("W/"));

/** Whether `If-None-Match` names the revision: weak comparison (RFC 9110, 13.1.2). */
export const namesRevision = (tags: EntityTags | undefined, revision: string): boolean =>
  tags !== undefined && (tags === "*" || tags.some((tag) => tag.replace(/^W\//, "") === revision));
