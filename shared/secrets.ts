/** Secret-bearing fields are marked where they are declared; logs are redacted from the marks, and a test pins the list. */
import * as z from "zod";

const marks = z.registry<{ secret: true }>();

/** Mark a field's schema: its value must never be logged, and may be answered only where the schema says so. */
export const secret = <T extends z.ZodType>(schema: T): T => {
  marks.add(schema, { secret: true });
  return schema;
};

/** Names of the marked fields of an object schema. */
export const secretFields = (schema: z.ZodObject): string[] =>
  Object.entries(schema.shape)
    .filter(([, field]) => isSecret(field as z.ZodType))
    .map(([name]) => name);

function isSecret(schema: z.ZodType): boolean {
  // get(), unlike has(), also sees the mark of the schema that this one was derived from, by describe() for one.
  if (marks.get(schema)?.secret) return true;
  const inner = (schema as { def?: { innerType?: z.ZodType } }).def?.innerType;
  return inner !== undefined && isSecret(inner);
}
