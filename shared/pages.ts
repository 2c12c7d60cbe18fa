/** Lists are pages: `{data, next_cursor}` with a Link header (RFC 8288) to the next one. */
import * as z from "zod";

export const pageQuery = z.strictObject({
  limit: z
    .string()
    .regex(/^[1-9]\d{0,2}$/, "Expected a whole number from 1 to 100")
    .transform(Number)
    .refine((limit) => limit <= 100, "Expected a whole number from 1 to 100")
    .default(50),
  /** From the page before; opaque to callers. It is the sequence number that the next page lies below. */
  cursor: z
    .string()
    .regex(/^[1-9]\d{0,14}$/, "Not a cursor of this list")
    .optional(),
});
export type PageRequest = z.infer<typeof pageQuery>;

export const pageOf = <T extends z.ZodType>(element: T) =>
  z.object({ data: z.array(element), next_cursor: z.string().nullable() });

/** The Link header of a page, none on the last. `query` is what the caller asked, kept for the next page. */
export function nextLink(
  path: string,
  query: Record<string, unknown>,
  next: string | null,
): Record<string, string> {
  if (next === null) return {};
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...query, cursor: next })) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  return { Link: `<${path}?${parameters}>; rel="next"` };
}
